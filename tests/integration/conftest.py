"""Benches for the tests, and the watch over what they leave behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from crikpy.settings import Settings, from_env
from tests.integration.moving import Bench, Kind

NEEDED = ("CRIKPY_CRIU_BUNDLE", "CRIKPY_CRIU_LAUNCHER")


@pytest.fixture(scope="session")
def settings() -> Settings:
    """Settings of the environment, or a skip that says what is missing."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to enter the namespaces of jobs")
    for name in NEEDED:
        if not os.environ.get(name):
            pytest.skip(f"needs {name} in the environment; hack/test sets it")
    return from_env({name: value for name, value in os.environ.items() if name in NEEDED})


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, since sockets lie below it."""
    with tempfile.TemporaryDirectory(prefix="crikpy-") as made:
        path = Path(made)
        path.chmod(0o755)
        yield path


@pytest.fixture(params=[Kind.PLAIN, Kind.CONTAINER])
def bench(request: pytest.FixtureRequest, folder: Path, settings: Settings) -> Iterator[Bench]:
    """A bench for capsules of either kind."""
    yield from _bench(folder, Kind(request.param), settings)


@pytest.fixture
def plain_bench(folder: Path, settings: Settings) -> Iterator[Bench]:
    """A bench for capsules as `crikpy run` makes them."""
    yield from _bench(folder, Kind.PLAIN, settings)


@pytest.fixture
def container_bench(folder: Path, settings: Settings) -> Iterator[Bench]:
    """A bench for capsules that are containers."""
    yield from _bench(folder, Kind.CONTAINER, settings)


def _bench(folder: Path, kind: Kind, settings: Settings) -> Iterator[Bench]:
    if kind is Kind.CONTAINER and shutil.which("runc") is None:
        pytest.skip("needs runc (apt install runc)")
    before = _traces(folder)
    made = Bench(folder, kind, settings)
    try:
        yield made
    finally:
        made.end()
    left = _traces(folder) - before
    assert not left, f"left behind: {sorted(left)}"


def _traces(folder: Path) -> set[str]:
    """Return what a bench could leave behind: mounts, cgroups and processes that know its folder or its parts."""
    found = {f"mount {line.split()[4]}" for line in _lines("/proc/self/mountinfo") if str(folder) in line}
    found |= {f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob("**/crikpy-test-*")}
    for process in psutil.process_iter():
        words = " ".join(_words(process))
        if str(folder) in words or "tests.jobs." in words:
            found.add(f"process {process.pid} {words[:200]}")
    return found


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
