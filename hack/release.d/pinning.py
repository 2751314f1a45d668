"""Names every image of the manifests by its digest, and sees that none is left without; hack/release calls it.

A tag can be moved to another image later; what was released and signed is the digest.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_REGISTRY = "ghcr.io/crikpy"
_IMAGE = re.compile(rf"{re.escape(_REGISTRY)}/[A-Za-z0-9._/:@-]+|^\s*(?:- )?image: *(\S+)$", re.MULTILINE)


def digests(path: Path) -> dict[str, str]:
    """Return the digest of each image by its name."""
    return dict(line.split() for line in path.read_text().splitlines())


def pin(version: str, known: dict[str, str], folder: Path) -> None:
    """Put digests behind the names of all images in a folder of kustomizations."""
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        text = path.read_text()
        for name, digest in known.items():
            tagged = f"{_REGISTRY}/{name}:{version}"
            text = re.sub(rf"{re.escape(tagged)}(?![\w.@-])", f"{tagged}@{digest}", text)
        path.write_text(text)


def pin_chart(known: dict[str, str], values: Path) -> None:
    """Write digests into a chart's values, each into the line that waits for it."""
    text = values.read_text()
    for name, digest in known.items():
        text, count = re.subn(rf'^(    {name}): ""$', rf"\1: {digest}", text, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"{values} has no one place for the digest of {name}")
    values.write_text(text)


def unpinned(known: dict[str, str], manifest: str) -> list[str]:
    """Return the images of a manifest, wherever it names them, that are not of this release by their digest."""
    good = {f"{_REGISTRY}/{name}": digest for name, digest in known.items()}
    named = [found[1] or found[0] for found in _IMAGE.finditer(manifest)]
    return [each for each in named if good.get(each.partition(":")[0]) != each.partition("@")[2]]


def check(known: dict[str, str], manifests: list[Path]) -> str | None:
    """Return what is wrong with manifests, if anything."""
    for path in manifests:
        wrong = unpinned(known, path.read_text())
        if wrong:
            return f"{path.name} names images without their digests: {', '.join(sorted(set(wrong)))}"
        if not known.keys() <= set(re.findall(rf"{re.escape(_REGISTRY)}/([a-z]+):", path.read_text())):
            return f"{path.name} does not name all of {', '.join(known)}"
    return None


if __name__ == "__main__":
    if sys.argv[1] == "pin":
        pin(sys.argv[2], digests(Path(sys.argv[3])), Path(sys.argv[4]))
    elif sys.argv[1] == "chart":
        pin_chart(digests(Path(sys.argv[2])), Path(sys.argv[3]))
    else:
        sys.exit(check(digests(Path(sys.argv[2])), [Path(each) for each in sys.argv[3:]]))
