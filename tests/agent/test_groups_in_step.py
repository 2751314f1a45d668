"""What is saved of a group is of one moment: ranks that step together are in step again wherever they go on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crikpy import names
from crikpy.kube.resources import PODS
from crikpy.store.base import ObjectStore
from tests.agent.agents import hears, prove
from tests.agent.conftest import MakeNode
from tests.agent.node import NAMESPACE, FakeNode, NodePod
from tests.agent.test_groups import GROUP, Ring, a_ring
from tests.agent.whole import runs
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.criu

LINE = "line"
NOTES = {**GROUP, names.EXCLUDE_VOLUMES: LINE}
"""The way between the ranks does not travel with them."""


def a_rank(node: FakeNode, rank: int) -> NodePod:
    return node.pod(f"rank-{rank}", job=("ranks", "/line"), annotations=NOTES, volumes={"main": {"/line": LINE}})


def carry(one: NodePod, other: NodePod) -> None:
    """Tell one rank how far the other is."""
    with contextlib.suppress(FileNotFoundError):
        said = os.readlink(one.volume(LINE) / "mine")
        new = other.volume(LINE) / ".theirs"
        new.unlink(missing_ok=True)
        new.symlink_to(said)
        new.rename(Path(other.volume(LINE)) / "theirs")


@contextlib.asynccontextmanager
async def in_touch(one: NodePod, other: NodePod) -> AsyncIterator[None]:
    """Carry what two ranks say between them, as a file server would."""

    async def carries() -> None:
        while True:
            carry(one, other)
            carry(other, one)
            await asyncio.sleep(0.005)

    task = asyncio.create_task(carries())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def steps(*pods: NodePod) -> list[int]:
    return [int((await prove(pod.jobs["main"])).split()[1]) for pod in pods]


async def after(pod: NodePod, step: int) -> int:
    """Wait until a rank has come further."""
    while (found := (await steps(pod))[0]) <= step:  # noqa: ASYNC110  the rank tells nobody by itself
        await asyncio.sleep(0.05)
    return found


async def gone(ring: Ring, pod: NodePod) -> None:
    """Have a pod vanish with its machine."""
    ring.desk.kube.remove(PODS, pod.name, namespace=NAMESPACE)
    os.kill(pod.jobs["main"].launcher_pid, signal.SIGKILL)


@pytest.mark.parametrize("leave_running", [True, False])
async def test_ranks_that_step_together_are_in_step_when_they_go_on(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore, *, leave_running: bool
) -> None:
    async with a_ring(make_node, kube, store) as ring:
        old = [a_rank(node, rank) for rank, node in enumerate(ring.nodes)]
        async with in_touch(*old):
            for pod in old:
                await runs(pod)
            before = await after(old[0], 10)
            await ring.saves(*old, leave_running=leave_running)
            if leave_running:
                later = await after(old[0], before + 20)
                for pod in old:
                    await gone(ring, pod)
            else:
                later = 1_000_000
                await ring.ends(*old)
        new = [a_rank(node, rank) for rank, node in enumerate(reversed(ring.nodes))]
        for pod in new:
            await pod.run()
        for pod in new:
            await hears(kube, pod, "Restored")
        first, second = await steps(*new)
        assert before <= first <= later, "it goes on from the set"
        assert abs(first - second) <= 1
        async with in_touch(*new):
            for pod in new:
                await after(pod, first + 5)
