"""What the artifacts of a release are made of, as components of CycloneDX: Python's, Debian's and our own.

Each is told by those who know it: a lock, dpkg's own list, the metadata of what is installed, a program's banner.
"""

from __future__ import annotations

import email
import hashlib
import re
from collections.abc import Iterator

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.component import Component, ComponentType
from packageurl import PackageURL

import locks

_BANNER = re.compile(rb"GNU C Library \(Debian GLIBC ([^)\s]+)\)")
_DISTRIBUTION = "debian-13"


def locked(pins: list[locks.Pin]) -> Iterator[Component]:
    """Yield the packages of a lock. One with two versions, for older and newer Pythons, is there twice."""
    for pin in pins:
        yield python(pin.name, pin.version)


def python(name: str, version: str, licence: str = "") -> Component:
    normal = re.sub(r"[-_.]+", "-", name).lower()
    return Component(
        name=normal,
        version=version,
        bom_ref=f"pkg:pypi/{normal}@{version}",
        purl=PackageURL("pypi", None, normal, version),
        licenses=[LicenseFactory().make_from_string(licence)] if licence else [],
    )


def installed_python(metadata: dict[str, bytes]) -> Iterator[Component]:
    """Yield what METADATA files of site-packages tell of."""
    for content in metadata.values():
        told = email.message_from_bytes(content)
        yield python(told["Name"], told["Version"], told.get("License-Expression", ""))


def debian(name: str, version: str, architecture: str, sha256: str = "") -> Component:
    purl = PackageURL("deb", "debian", name, version, {"arch": architecture, "distro": _DISTRIBUTION})
    return Component(
        name=name, version=version, bom_ref=str(purl), purl=purl, hashes=_hashes(sha256) if sha256 else []
    )


def installed_debian(status: bytes) -> Iterator[Component]:
    """Yield what dpkg's status file says is installed."""
    for paragraph in status.decode().split("\n\n"):
        told = email.message_from_string(paragraph)
        if told.get("Status", "").endswith(" installed"):
            yield debian(told["Package"], told["Version"], told["Architecture"])


def bundled(packages: bytes) -> Iterator[Component]:
    """Yield the packages of a CRIU bundle, whose file PACKAGES has lines of daemonset/criu/bundle.lock."""
    for line in packages.decode().splitlines():
        _, name, version, architecture, _, sha256 = line.split()
        yield debian(name, version, architecture, sha256)


def launcher(program: bytes, version: str) -> Iterator[Component]:
    """Yield our launcher, and the C library that is linked into it.

    Raises:
        ValueError: the program does not say which C library that is.
    """
    yield file("crikpy-launcher", version, program)
    banner = _BANNER.search(program)
    if banner is None:
        raise ValueError("the launcher has no banner of a C library of Debian's in it")
    yield debian("libc6-dev", banner[1].decode(), "amd64")


def file(name: str, version: str, content: bytes) -> Component:
    """Return a program or library of ours."""
    return Component(
        name=name,
        version=version,
        type=ComponentType.FILE if name.endswith(".so") else ComponentType.APPLICATION,
        bom_ref=f"{name}@{version}",
        hashes=_hashes(hashlib.sha256(content).hexdigest()),
        licenses=[LicenseFactory().make_from_string("Apache-2.0")],
    )


def _hashes(sha256: str) -> list[HashType]:
    return [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]
