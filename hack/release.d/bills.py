"""Writes the bills of materials of a release, one for each artifact that people run; hack/release calls it.

The same artifacts make the same bills, to the byte: numbers are made from what they tell of, and dates are given.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

import layers
import locks
import parts

_NAMES = uuid.UUID("6a2f5a8e-5a0b-4c55-9d0c-51f6f4d5b0a7")
_METADATA = r".*/site-packages/[^/]+\.dist-info/METADATA"
_STATUS, _PACKAGES = "var/lib/dpkg/status", "opt/crikpy/criu/PACKAGES"
_LIBRARIES = "opt/crikpy/[^/]+[.]so"
_LAUNCHERS = "launch|opt/crikpy/launch"


@dataclass(frozen=True)
class Release:
    """Which one.

    Attributes:
        version: of crikpy.
        date: of everything in it.
    """

    version: str
    date: dt.datetime


def bill(release: Release, subject: Component, components: Iterable[Component]) -> Bom:
    """Return the bill of one artifact, of which everything else is a part."""
    found = {str(each.bom_ref): each for each in components if each.bom_ref != subject.bom_ref}
    told = [
        f"{each.bom_ref} {sorted(kept.content for kept in each.hashes)}" for each in (subject, *found.values())
    ]
    bom = Bom(
        components=found.values(),
        serial_number=uuid.uuid5(_NAMES, "\n".join(sorted(told))),
        metadata=BomMetaData(component=subject, timestamp=release.date),
    )
    bom.register_dependency(subject, found.values())
    return bom


def of_python(release: Release, wheel: Path, lock: Path) -> Bom:
    """Return the bill of the wheel together with all that the lock has pip install for it."""
    pins = locks.pins(lock)
    subject = parts.python(locks.OURS, release.version, "Apache-2.0")
    subject.type = ComponentType.APPLICATION
    subject.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=_sha256(wheel)))
    components = {str(each.bom_ref): each for each in parts.locked(pins)}
    bom = bill(release, subject, components.values())
    bom.dependencies.clear()
    needs: dict[str, list[Component]] = {}
    for pin, component in zip(pins, parts.locked(pins), strict=True):
        for needer in pin.needed_by:
            needs.setdefault(needer, []).append(components[str(component.bom_ref)])
    bom.register_dependency(subject, needs.get(locks.OURS, []))
    for pin, component in zip(pins, parts.locked(pins), strict=True):
        bom.register_dependency(component, needs.get(pin.name, []))
    return bom


def of_node(release: Release, folder: Path) -> Bom:
    """Return the bill of the folder with CRIU and the launcher."""
    subject = _subject("crikpy-node", release, ComponentType.APPLICATION)
    components = [
        *parts.launcher((folder / "launch").read_bytes(), release.version),
        *(parts.file(path.name, release.version, path.read_bytes()) for path in sorted(folder.glob("*.so"))),
        *parts.bundled((folder / "criu/PACKAGES").read_bytes()),
    ]
    return bill(release, subject, components)


def of_image(release: Release, name: str, archive: Path) -> Bom:
    """Return the bill of an image, by what is in it."""
    image = layers.Image(archive)
    subject = _subject(name, release, ComponentType.CONTAINER)
    place = {"repository_url": f"ghcr.io/crikpy/{name}", "tag": release.version}
    subject.purl = PackageURL("oci", None, name, image.digest, place)
    subject.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=image.digest.removeprefix("sha256:")))
    found = image.files("|".join((_METADATA, _STATUS, _PACKAGES, _LAUNCHERS, _LIBRARIES)))
    components: list[Component] = []
    for path, content in found.items():
        if path == _STATUS:
            components += parts.installed_debian(content)
        elif path == _PACKAGES:
            components += parts.bundled(content)
        elif path.endswith("METADATA"):
            components += parts.installed_python({path: content})
        elif path.endswith(".so"):
            components.append(parts.file(Path(path).name, release.version, content))
        else:
            components += parts.launcher(content, release.version)
    return bill(release, subject, components)


def _subject(name: str, release: Release, kind: ComponentType) -> Component:
    return Component(name=name, version=release.version, type=kind, bom_ref=f"{name}@{release.version}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", required=True)
    parser.add_argument("--date", type=int, required=True, help="seconds since 1970")
    parser.add_argument("--output", type=Path, required=True, help="folder of the bills")
    parser.add_argument("--wheel", type=Path)
    parser.add_argument("--lock", type=Path, default=locks.FOLDER / "packages.lock")
    parser.add_argument("--node", type=Path, help="folder with the launcher and the CRIU bundle")
    parser.add_argument("--image", action="append", default=[], metavar="NAME=OCI-ARCHIVE")
    options = parser.parse_args()
    release = Release(options.version, dt.datetime.fromtimestamp(options.date, dt.UTC))
    boms = {}
    if options.wheel:
        boms["crikpy"] = of_python(release, options.wheel, options.lock)
    if options.node:
        boms["crikpy-node"] = of_node(release, options.node)
    for name, _, archive in (each.partition("=") for each in options.image):
        boms[f"crikpy-{name}"] = of_image(release, name, Path(archive))
    for name, bom in boms.items():
        path = options.output / f"{name}-{release.version}.cdx.json"
        path.write_text(JsonV1Dot6(bom).output_as_string(indent=1) + "\n")


if __name__ == "__main__":
    main()
