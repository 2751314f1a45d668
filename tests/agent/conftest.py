"""Nodes, an API server and a store for agents, and the watch over what they leave behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from crikpy.kube.client import KubeClient
from crikpy.settings import AgentSettings, Settings, from_env
from crikpy.store.base import ObjectStore
from crikpy.store.local import LocalStore
from tests.agent.node import FakeNode
from tests.fakes.kube import FakeKube

NEEDED = ("CRIKPY_CRIU_BUNDLE", "CRIKPY_CRIU_LAUNCHER")
MakeNode = Callable[[str], FakeNode]


@pytest.fixture(scope="session")
def machine() -> Settings:
    """Settings of the environment, or a skip that says what is missing."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to enter the namespaces of jobs")
    if shutil.which("runc") is None:
        pytest.skip("needs runc (apt install runc)")
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


@pytest.fixture
async def kube() -> AsyncIterator[FakeKube]:
    """An API server."""
    async with FakeKube().serving() as server:
        yield server


@pytest.fixture
async def api(kube: FakeKube, folder: Path) -> AsyncIterator[KubeClient]:
    """A client of it."""
    async with await KubeClient.connect(kube.settings(folder)) as client:
        yield client


@pytest.fixture
def store(folder: Path) -> ObjectStore:
    """A store that all nodes share."""
    (folder / "store").mkdir()
    return LocalStore(folder / "store")


@pytest.fixture
def make_node(folder: Path, machine: Settings, kube: FakeKube) -> Iterator[MakeNode]:
    """A maker of nodes, which end with the test."""
    made: list[FakeNode] = []

    def make(name: str = "node-a") -> FakeNode:
        home = folder / name
        home.mkdir()
        settings = replace(
            machine,
            kube=kube.settings(home),
            agent=AgentSettings(
                node=name,
                kubelet_dir=home / "kubelet",
                state_dir=home / "state",
                rescan_s=0.5,
                gather_s=20.0,
                api_wait_s=5.0,
                origin_wait_s=20.0,
                look_after_s=0.2,
                spare_s=2.0,
            ),
        )
        made.append(FakeNode(name, home, settings, kube))
        return made[-1]

    yield make
    with contextlib.ExitStack() as ends:  # each has its turn, whatever goes wrong with the others
        for node in made:
            ends.callback(node.end)
    left = [trace for node in made for trace in _traces(node)]
    assert not left, f"left behind: {left}"


@pytest.fixture
def node(make_node: MakeNode) -> FakeNode:
    """One node."""
    return make_node("node-a")


def _traces(node: FakeNode) -> Iterator[str]:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    yield from (line for line in mounts if str(node.folder) in line)
    for place, below, _ in os.walk("/sys/fs/cgroup"):  # unlike a glob, it bears what others remove meanwhile
        yield from (f"{place}/{name}" for name in below if name.startswith(f"{node.token}-"))
