"""A bill of materials names what is in the artifact, is valid CycloneDX, and the same again for the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
_BANNER = b"\0GNU C Library (Debian GLIBC 2.41-12+deb13u5) stable release version 2.41.\0"
_DEBS = (
    "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2.37-2\n\n"
    "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1.0\n\n"
    "Package: tzdata\nStatus: install ok installed\nArchitecture: all\nVersion: 2026b-0+deb13u1\n"
)
_CRIU = "trixie criu 4.2.1-1 amd64 pool/main/c/criu/criu_4.2.1-1_amd64.deb " + "4" * 64 + "\n"
_SITE = "opt/crikpy/venv/lib/python3.13/site-packages"
Files = dict[str, bytes]


def metadata(name: str, version: str) -> bytes:
    return f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: MIT\n".encode()


def write_image(path: Path, *layers: Files) -> Path:
    """Write an OCI archive of one image, as buildah writes them."""
    blobs: list[bytes] = []

    def kept(content: bytes) -> dict[str, Any]:
        blobs.append(content)
        return {"digest": f"sha256:{hashlib.sha256(content).hexdigest()}", "size": len(content)}

    told = {"config": kept(b'{"config": {}}'), "layers": [kept(tarred(files)) for files in layers]}
    index = {"manifests": [kept(json.dumps(told).encode())]}
    files = {f"blobs/sha256/{hashlib.sha256(content).hexdigest()}": content for content in blobs}
    path.write_bytes(tarred(files | {"index.json": json.dumps(index).encode()}))
    return path


def tarred(files: Files) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


def bills(folder: Path, *options: str) -> dict[str, str]:
    """Return the bills that are written, by the names of their files."""
    folder.mkdir()
    command = [sys.executable, str(ROOT / "hack/release.d/bills.py"), "--version=1.0", "--date=1580601600"]
    done = subprocess.run([*command, f"--output={folder}", *options], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_text() for path in folder.iterdir()}


def components(bill: str) -> dict[str, str]:
    """Return the versions in a bill by the beginning of their purls, or else by their names."""
    found = {}
    for each in json.loads(bill)["components"]:
        found[each.get("purl", each["name"]).partition("@")[0]] = each["version"]
    return found


@pytest.fixture
def image(tmp_path: Path) -> Path:
    base = {"var/lib/dpkg/status": b"Package: old\nStatus: install ok installed\nVersion: 1\n"}
    python = {
        "var/lib/dpkg/status": _DEBS.encode(),
        f"{_SITE}/Some_Thing-1.0.dist-info/METADATA": metadata("Some_Thing", "1.0"),
        f"{_SITE}/removed-1.0.dist-info/METADATA": metadata("removed", "1.0"),
        f"{_SITE}/hidden-1.0.dist-info/METADATA": metadata("hidden", "1.0"),
    }
    ours = {
        f"{_SITE}/.wh.removed-1.0.dist-info": b"",
        f"{_SITE}/hidden-1.0.dist-info/.wh..wh..opq": b"",
        "opt/crikpy/criu/PACKAGES": _CRIU.encode(),
        "opt/crikpy/launch": _BANNER,
        "opt/crikpy/tiles.so": b"tiles",
    }
    return write_image(tmp_path / "image.oci.tar", base, python, ours)


def test_an_image_is_told_by_what_a_container_of_it_would_see(tmp_path: Path, image: Path) -> None:
    (bill,) = bills(tmp_path / "bills", f"--image=agent={image}").values()
    assert components(bill) == {
        "pkg:deb/debian/bash": "5.2.37-2",
        "pkg:deb/debian/tzdata": "2026b-0+deb13u1",
        "pkg:deb/debian/criu": "4.2.1-1",
        "pkg:deb/debian/libc6-dev": "2.41-12+deb13u5",
        "pkg:pypi/some-thing": "1.0",
        "crikpy-launcher": "1.0",
        "tiles.so": "1.0",
    }


def test_an_image_is_known_by_the_digest_of_its_manifest(tmp_path: Path, image: Path) -> None:
    (bill,) = bills(tmp_path / "bills", f"--image=agent={image}").values()
    with tarfile.open(image) as archive:
        index = archive.extractfile("index.json")
        assert index is not None
        digest = json.load(index)["manifests"][0]["digest"]
    subject = json.loads(bill)["metadata"]["component"]
    assert subject["purl"].startswith(f"pkg:oci/agent@{digest}?")


def test_the_launcher_says_itself_which_c_library_is_in_it(tmp_path: Path) -> None:
    made: list[str | Path] = ["make", "-s", "-C", ROOT / "daemonset/launcher", f"BUILD={tmp_path}/out", "launch"]
    subprocess.run(made, check=True, timeout=60)
    image = write_image(tmp_path / "image.oci.tar", {"launch": (tmp_path / "out/launch").read_bytes()})
    (bill,) = bills(tmp_path / "bills", f"--image=launcher={image}").values()
    assert components(bill).keys() == {"crikpy-launcher", "pkg:deb/debian/libc6-dev"}


def test_the_wheels_bill_has_every_pin_and_who_needs_it(tmp_path: Path) -> None:
    (tmp_path / "wheel").write_bytes(b"wheel")
    (text,) = bills(tmp_path / "bills", f"--wheel={tmp_path / 'wheel'}").values()
    bill = json.loads(text)
    pins = (ROOT / "daemonset/python/packages.lock").read_text().count("==")
    assert len(bill["components"]) == pins
    needs = {
        each["ref"].partition("@")[0]: {needed.partition("@")[0] for needed in each.get("dependsOn", [])}
        for each in bill["dependencies"]
    }
    assert "pkg:pypi/boto3" in needs["pkg:pypi/crikpy"]
    assert "pkg:pypi/botocore" not in needs["pkg:pypi/crikpy"]
    assert "pkg:pypi/botocore" in needs["pkg:pypi/boto3"]


def test_bills_are_valid_and_the_same_again(tmp_path: Path, image: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    (tmp_path / "wheel").write_bytes(b"wheel")
    options = (f"--wheel={tmp_path / 'wheel'}", f"--image=agent={image}")
    first, second = bills(tmp_path / "first", *options), bills(tmp_path / "second", *options)
    assert first.keys() == {"crikpy-1.0.cdx.json", "crikpy-agent-1.0.cdx.json"}
    assert first == second
    for bill in first.values():
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
