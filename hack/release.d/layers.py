"""Reads files out of an image that is an OCI archive, as a container of it would see them, without unpacking it.

It only looks: no file of an image is written or run, and sizes are bounded, since all of it is kept in memory.
"""

from __future__ import annotations

import json
import re
import sys
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

_LONGEST = 64 * 1024 * 1024
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


class Image:
    """One image.

    Attributes:
        digest: of its manifest, as a registry names it: `sha256:…`.
        labels: those of its configuration.
    """

    def __init__(self, path: Path) -> None:
        """Read what the archive says about itself.

        Raises:
            ValueError: it is not an OCI archive of exactly one image.
        """
        self._path = path
        with tarfile.open(path) as archive:
            manifests = json.loads(_content(archive, "index.json"))["manifests"]
            if len(manifests) != 1:
                raise ValueError(f"{path} holds {len(manifests)} images")
            self.digest: str = manifests[0]["digest"]
            self._manifest: dict[str, Any] = json.loads(_content(archive, _blob(self.digest)))
            config = json.loads(_content(archive, _blob(self._manifest["config"]["digest"])))
        self.labels: dict[str, str] = config.get("config", {}).get("Labels") or {}

    def files(self, wanted: str) -> dict[str, bytes]:
        """Return the regular files whose path, without the first slash, matches all of a regular expression."""
        pattern, found = re.compile(wanted), dict[str, bytes]()
        with tarfile.open(self._path) as archive:
            for layer in self._manifest["layers"]:
                with tarfile.open(fileobj=archive.extractfile(_blob(layer["digest"]))) as members:
                    for member in members:
                        _apply(members, member, pattern, found)
        return found


def _apply(
    members: tarfile.TarFile, member: tarfile.TarInfo, pattern: re.Pattern[str], found: dict[str, bytes]
) -> None:
    path = PurePosixPath(member.name)
    if path.name == _OPAQUE:
        _forget(found, path.parent, itself=False)
    elif path.name.startswith(_WHITEOUT):
        _forget(found, path.with_name(path.name.removeprefix(_WHITEOUT)), itself=True)
    elif not member.isdir():
        found.pop(str(path), None)
        if member.isfile() and pattern.fullmatch(str(path)):
            found[str(path)] = _content(members, member.name)


def _forget(found: dict[str, bytes], gone: PurePosixPath, *, itself: bool) -> None:
    for path in [each for each in found if gone in PurePosixPath(each).parents or (itself and each == str(gone))]:
        del found[path]


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    content = file.read(_LONGEST + 1)
    if len(content) > _LONGEST:
        raise ValueError(f"{name} is larger than {_LONGEST} bytes")
    return content


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


if __name__ == "__main__":
    print(Image(Path(sys.argv[1])).digest)
