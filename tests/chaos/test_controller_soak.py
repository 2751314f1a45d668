"""A controller that sees hundreds of interruptions: what is over leaves nothing in it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from crikpy.kube.resources import CHECKPOINTS, EVENTS, NODES, PODS
from crikpy.model.orders import OrderPhase
from crikpy.settings import MIB
from tests.chaos.recording import Record
from tests.controller.objects import announce, answer, notice_in, raw_node, raw_pod
from tests.controller.test_process import holder, program
from tests.fakes.kube import FakeKube

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(300)]

NODES_AT_ONCE = 8
WARM = 25
TIMES = 60
ROOM = 4 * MIB
CONNECTIONS = 4
"""So many more may be open at one moment than at another."""


@pytest.fixture
async def kube() -> AsyncIterator[FakeKube]:
    async with FakeKube().serving() as kube:
        yield kube


@pytest.fixture
async def controller(kube: FakeKube, tmp_path: Path) -> AsyncIterator[psutil.Process]:
    """A controller as a program, that leads."""
    argv, environment = program(tmp_path, kube.kubeconfig(tmp_path))
    environment["CRIKPY_KUBE_LEASE_S"] = "15"  # nobody else wants it, and the machine may be busy
    with (tmp_path / "log").open("wb") as log:
        child = await asyncio.create_subprocess_exec(*argv, env=environment, stdout=log, stderr=log)
        try:
            await kube.until(lambda: holder(kube) == "program")
            yield psutil.Process(child.pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()


def held(process: psutil.Process) -> tuple[int, int]:
    """Return what a process could keep: descriptors, threads."""
    return process.num_fds(), process.num_threads()


async def interrupt(kube: FakeKube, number: int) -> None:
    """Have nodes come, be interrupted with a pod each, have these saved and ended, and go for ever."""
    names = [f"n{number}-{each}" for each in range(NODES_AT_ONCE)]
    for name in names:
        kube.put(NODES, raw_node(name))
        # Just begun, as it may be seen before its node is, which else would seem to be gone.
        kube.put(PODS, raw_pod(f"pod-{name}", node=name, started_s=0))
    for name in names:
        announce(kube, name, notice_in(120))
    await kube.until(lambda: len(kube.all(CHECKPOINTS)) == NODES_AT_ONCE)
    for order in kube.all(CHECKPOINTS):
        answer(kube, order, OrderPhase.COMPLETE)
    await kube.until(lambda: all("deletionTimestamp" in pod["metadata"] for pod in kube.all(PODS)))
    for resource in (PODS, CHECKPOINTS, NODES, EVENTS):
        for found in kube.all(resource):
            meta = found["metadata"]
            kube.remove(resource, meta["name"], namespace=meta.get("namespace", ""))


async def test_a_controller_grows_by_nothing(kube: FakeKube, controller: psutil.Process, record: Record) -> None:
    for number in range(WARM):
        await interrupt(kube, number)
    before, memory = held(controller), controller.memory_info().rss
    for number in range(WARM, TIMES):
        await interrupt(kube, number)
    grown = controller.memory_info().rss - memory
    files, threads = held(controller)
    assert files <= before[0] + CONNECTIONS
    assert threads <= before[1]
    assert grown < ROOM, f"{grown / MIB:.1f} MiB more"
    record(
        "soak",
        f"a controller sees {TIMES * NODES_AT_ONCE} nodes interrupted and gone",
        "every pod saved and ended; nothing grew",
    )
