"""Takes out of an image's history by which numbers buildah knew its layers on this machine; build-image calls it.

They are random, and would give the same image another digest each time. Nothing else of the image is changed.

    forgetting.py FOLDER     an OCI layout with one image
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any


def rewrite(blobs: Path, described: dict[str, Any], content: dict[str, Any]) -> None:
    """Put a blob in the place of the one that a descriptor names, and mend the descriptor."""
    text = json.dumps(content, separators=(",", ":")).encode()
    (blobs / described["digest"].removeprefix("sha256:")).unlink()
    digest = hashlib.sha256(text).hexdigest()
    (blobs / digest).write_bytes(text)
    described |= {"digest": f"sha256:{digest}", "size": len(text)}


def forget(folder: Path) -> None:
    blobs = folder / "blobs/sha256"
    index = json.loads((folder / "index.json").read_text())
    (image,) = index["manifests"]
    manifest = json.loads((blobs / image["digest"].removeprefix("sha256:")).read_text())
    config = json.loads((blobs / manifest["config"]["digest"].removeprefix("sha256:")).read_text())
    for step in config.get("history", ()):
        step.pop("comment", None)
    rewrite(blobs, manifest["config"], config)
    rewrite(blobs, image, manifest)
    (folder / "index.json").write_text(json.dumps(index, separators=(",", ":")))


if __name__ == "__main__":
    forget(Path(sys.argv[1]))
