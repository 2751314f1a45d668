"""The Python packages of images and releases are pinned by hash, for the pyproject.toml that there is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "daemonset/python").glob("*.lock"))


def pinned(path: Path) -> dict[str, set[str]]:
    """Return the versions that a lock has of each package."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", path.read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def check(tree: Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, tree / "hack/release.d/locking.py", "--check"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for path in ("hack/release.d", "daemonset/python"):
        shutil.copytree(ROOT / path, tmp_path / path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_locks_are_of_this_pyproject() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("old", "new"), [('"click>=', '"click>8.'), ('"hatchling>=', '"hatchling>1.')])
def test_a_changed_requirement_needs_a_new_lock(tree: Path, old: str, new: str) -> None:
    project = tree / "pyproject.toml"
    assert old in project.read_text()
    project.write_text(project.read_text().replace(old, new))
    done = check(tree)
    assert done.returncode == 1
    assert "run hack/python-lock" in done.stderr


def test_every_requirement_is_met_by_a_pin() -> None:
    from packaging.requirements import Requirement

    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [*told["project"]["dependencies"], *told["build-system"]["requires"]]
    pins = {name: versions for path in LOCKS for name, versions in pinned(path).items()}
    for requirement in map(Requirement, asked):
        versions = pins[requirement.name.replace("_", "-").lower()]
        assert all(requirement.specifier.contains(version) for version in versions), requirement


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_pin_has_hashes_and_nothing_comes_from_elsewhere(path: Path) -> None:
    text = path.read_text()
    assert pinned(path)
    assert len(re.findall(r"^\S.*==.* \\\n    --hash=sha256:", text, re.MULTILINE)) == len(
        re.findall("^[^#\\s]", text, re.MULTILINE)
    )
    assert not re.search(r"https?:|^--|git\+| @ ", text, re.MULTILINE)
