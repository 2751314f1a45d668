"""A whole release but for its images: made twice it is the same, and it holds what docs/security.md says."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

import crikpy
from tests.manifests.charts import helm

# The manifests are made by kubectl, which hack/test has when its end-to-end tests begin.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = sorted(path.name for path in (ROOT / "controller/overlays").iterdir())
VERSION = crikpy.__version__


def release(output: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [ROOT / "hack/release", VERSION, "--output", output, "--allow-changes", *options]
    env = os.environ | {"SOURCE_DATE_EPOCH": "1580601600"}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def digests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digests") / "digests"
    with path.open("w") as file:
        for name in ("agent", "controller", "launcher"):
            file.write(f"{name} sha256:{hashlib.sha256(name.encode()).hexdigest()}\n")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, digests: Path) -> Path:
    """A signed release; beside it are the key and the signers."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "crikpy/cluster/bin/kubectl"
    if not cache.exists() and not shutil.which("kubectl"):
        pytest.skip("needs kubectl: hack/cluster build makes one")
    folder = tmp_path_factory.mktemp("release")
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=30)
    (folder / "signers").write_text(f"release@crikpy.test {key.with_suffix('.pub').read_text()}")
    done = release(folder / "made", "--digests", digests, "--key", key)
    assert done.returncode == 0, done.stderr
    return folder / "made"


def sums(folder: Path) -> dict[str, str]:
    return {name: digest for digest, name in map(str.split, (folder / "SHA256SUMS").read_text().splitlines())}


def test_it_verifies_and_holds_what_it_should(made: Path) -> None:
    command: list[str | Path] = [ROOT / "hack/release", "verify", made, made.with_name("signers")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert sums(made).keys() == {
        f"crikpy-{VERSION}.tar.gz",
        f"crikpy-{VERSION}-py3-none-any.whl",
        f"crikpy-{VERSION}.requirements.txt",
        f"crikpy-{VERSION}.cdx.json",
        f"crikpy-node-{VERSION}-linux-amd64.tar.gz",
        f"crikpy-node-{VERSION}.cdx.json",
        f"crikpy-manifests-{VERSION}.tar.gz",
        f"crikpy-chart-{VERSION}.tgz",
        "image-digests.txt",
        *(f"crikpy-{overlay}-{VERSION}.yaml" for overlay in OVERLAYS),
    }


def test_made_again_it_is_the_same_to_the_byte(
    made: Path, digests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "elsewhere"))
    done = release(tmp_path / "again", "--digests", digests, "--unsigned")
    assert done.returncode == 0, done.stderr
    assert sums(tmp_path / "again") == sums(made)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_manifest_names_an_image_without_its_digest(made: Path, digests: Path, overlay: str) -> None:
    text = (made / f"crikpy-{overlay}-{VERSION}.yaml").read_text()
    found = set(re.findall(r"(?:image|IMAGE): (\S+)$", text, re.MULTILINE))
    known = [line.split() for line in digests.read_text().splitlines()]
    assert found == {f"ghcr.io/crikpy/{name}:{VERSION}@{digest}" for name, digest in known}


def test_the_chart_is_one_that_helm_takes_and_names_images_by_digest(
    made: Path, digests: Path, tmp_path: Path
) -> None:
    values = {"cluster": "c", "store": {"kind": "directory"}, "tidy": {"enabled": True}}
    archive = made / f"crikpy-chart-{VERSION}.tgz"
    done = helm("template", "crikpy", archive, values=values, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "symbolic link" not in done.stderr
    found = set(re.findall(r"(?:image|IMAGE): (\S+)$", done.stdout, re.MULTILINE))
    known = [line.split() for line in digests.read_text().splitlines()]
    assert found == {f"ghcr.io/crikpy/{name}:{VERSION}@{digest}" for name, digest in known}


def test_archives_tell_nothing_of_the_machine_that_made_them(made: Path) -> None:
    for path in (*made.glob("*.tar.gz"), *made.glob("*.tgz")):
        with tarfile.open(path) as archive:
            for member in archive:
                assert (member.uid, member.gid, member.mtime) == (0, 0, 1580601600), f"{path.name}: {member.name}"
                assert "__pycache__" not in member.name


def test_a_release_is_made_once_and_not_of_another_version(made: Path, tmp_path: Path) -> None:
    again = release(made, "--unsigned")
    assert again.returncode == 1
    assert "exists" in again.stderr
    command: list[str | Path] = [ROOT / "hack/release", "99.0", "--output", tmp_path / "made", "--unsigned"]
    other = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert other.returncode == 1
    assert f"pyproject.toml says {VERSION}" in other.stderr


def test_nothing_is_left_unsigned_by_oversight(tmp_path: Path) -> None:
    assert release(tmp_path / "made").returncode == 2
    assert not (tmp_path / "made").exists()
