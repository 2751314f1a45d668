"""Pack a tar of files as an image archive that containerd, Docker and podman load.

    pack.py LAYER ARCHIVE NAME:TAG [ENTRYPOINT...]

The format is that of `docker save`, with one layer. The same layer gives the same bytes, and so the same image ID.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

LONG_AGO = "1970-01-01T00:00:00Z"


def main(layer: Path, archive: Path, name: str, *entrypoint: str) -> None:
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    config = to_json(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": LONG_AGO,
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "WorkingDir": "/",
                **({"Entrypoint": list(entrypoint)} if entrypoint else {}),
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": LONG_AGO, "created_by": "hack/cluster"}],
        }
    )
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = to_json([{"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}])
    with tarfile.open(archive, "w") as tar:
        for member, content in ((config_name, config), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        entry = tarfile.TarInfo(f"{digest}/layer.tar")
        entry.size = layer.stat().st_size
        with layer.open("rb") as file:
            tar.addfile(entry, file)


def to_json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
