"""Benches for the tests, and the watch over what they leave behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from crikpy.settings import MIB, Settings, from_env
from tests.integration.moving import Bench, Kind
from tests.integration.pods import Pod

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


@pytest.fixture(params=[Kind.PLAIN, Kind.CONTAINER])
def pod(request: pytest.FixtureRequest, folder: Path, settings: Settings) -> Iterator[Pod]:
    """Two benches for capsules of either kind that belong together."""
    yield from _pod(folder, Kind(request.param), settings)


@pytest.fixture
def container_pod(folder: Path, settings: Settings) -> Iterator[Pod]:
    """Two benches for containers that belong together."""
    yield from _pod(folder, Kind.CONTAINER, settings)


@pytest.fixture
def jobs(pod: Pod) -> Pod:
    """Two jobs, the second with more memory than can be taken in before something is stored."""
    bound = replace(pod.settings.store, memory_bytes=224 * MIB)
    pod.use(replace(pod.settings, store=bound))
    pod.begin(_heavy_last(pod))
    return pod


def _heavy_last(pod: Pod) -> dict[str, Sequence[object]]:
    """Return jobs by name, so that the one that is saved last takes longest."""
    by_workload = {bench.workload: name for name, bench in pod.benches.items()}
    last = by_workload[pod.workloads[-1]]
    return {name: ("memory", 72, 1) if name == last else ("family", 4) for name in pod.benches}


def _pod(folder: Path, kind: Kind, settings: Settings) -> Iterator[Pod]:
    _require(kind)
    made = Pod(folder, kind, settings)
    try:
        yield made
    finally:
        made.end()
    left = sorted(trace for bench in made.benches.values() for trace in _traces(bench))
    assert not left, f"left behind: {left}"


def _require(kind: Kind) -> None:
    if kind is Kind.CONTAINER and shutil.which("runc") is None:
        pytest.skip("needs runc (apt install runc)")


def _bench(folder: Path, kind: Kind, settings: Settings) -> Iterator[Bench]:
    _require(kind)
    made = Bench(folder, kind, settings)
    try:
        yield made
    finally:
        made.end()
    left = sorted(_traces(made))
    assert not left, f"left behind: {left}"


def _traces(bench: Bench) -> Iterator[str]:
    """Yield what a bench could leave behind: mounts, cgroups, and processes that know its folder."""
    folder = str(bench.folder)
    yield from (line for line in Path("/proc/self/mountinfo").read_text().splitlines() if folder in line)
    for place, below, _ in os.walk("/sys/fs/cgroup"):  # unlike a glob, it bears what others remove meanwhile
        yield from (f"{place}/{name}" for name in below if name.startswith(f"{bench.name}-"))
    for process in psutil.process_iter():
        for file in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                if folder.encode() in Path(f"/proc/{process.pid}/{file}").read_bytes():
                    yield f"{process}"
