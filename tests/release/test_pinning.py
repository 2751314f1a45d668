"""A released manifest names every image by its digest."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import crikpy

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("agent", "controller", "launcher")
PROGRAM = ROOT / "hack/release.d/pinning.py"


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, PROGRAM, *words], capture_output=True, text=True, timeout=30)


@pytest.fixture
def digests(tmp_path: Path) -> Path:
    path = tmp_path / "digests"
    path.write_text("".join(f"{name} sha256:{number:064x}\n" for number, name in enumerate(NAMES, 1)))
    return path


@pytest.fixture
def manifest(tmp_path: Path, digests: Path) -> Path:
    """All manifests of the checkout in one file, with digests."""
    for folder in ("controller", "daemonset"):
        shutil.copytree(ROOT / folder, tmp_path / "tree" / folder)
    done = run("pin", crikpy.__version__, digests, tmp_path / "tree")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "all.yaml"
    found = sorted(each for each in (tmp_path / "tree").rglob("*") if each.suffix in (".yaml", ".env"))
    path.write_text("---\n".join(each.read_text() for each in found))
    return path


def test_every_image_of_every_manifest_gets_its_digest(manifest: Path, digests: Path) -> None:
    text = manifest.read_text()
    for line in digests.read_text().splitlines():
        name, digest = line.split()
        assert f"ghcr.io/crikpy/{name}:{crikpy.__version__}@{digest}" in text
    done = run("check", digests, manifest)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "image",
    [
        f"ghcr.io/crikpy/agent:{crikpy.__version__}",
        f"ghcr.io/crikpy/agent:{crikpy.__version__}@sha256:{2:064x}",
        "busybox:1",
        f"busybox:1@sha256:{1:064x}",
    ],
    ids=["no digest", "another's digest", "no image of ours", "no image of ours, with a digest"],
)
def test_a_manifest_with_another_image_is_refused(manifest: Path, digests: Path, image: str) -> None:
    manifest.write_text(f"{manifest.read_text()}\n---\n        - image: {image}\n")
    done = run("check", digests, manifest)
    assert done.returncode == 1
    assert image in done.stderr


def test_a_launcher_without_digest_in_the_settings_is_refused(manifest: Path, digests: Path) -> None:
    text = manifest.read_text()
    digest = digests.read_text().splitlines()[2].split()[1]
    assert f"CRIKPY_CONTROLLER_LAUNCHER_IMAGE=ghcr.io/crikpy/launcher:{crikpy.__version__}@{digest}" in text
    manifest.write_text(text.replace(f"@{digest}", ""))
    assert run("check", digests, manifest).returncode == 1


def test_another_version_that_begins_alike_gets_no_digest(tmp_path: Path, digests: Path) -> None:
    (tmp_path / "tree").mkdir()
    path = tmp_path / "tree/some.yaml"
    path.write_text(text := f"image: ghcr.io/crikpy/agent:{crikpy.__version__}-rc1\n")
    assert run("pin", crikpy.__version__, digests, tmp_path / "tree").returncode == 0
    assert path.read_text() == text
