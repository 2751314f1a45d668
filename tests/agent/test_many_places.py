"""A pod that shows more places than it has containers, all mute and ever others, holds up nobody but itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crikpy.agent.places import LauncherPlace
from crikpy.agent.sessions import CapsuleSession, PodSession
from crikpy.agent.suspending import Suspensions
from tests.agent.listening import Listener, start
from tests.agent.node import FakeNode
from tests.fakes.kube import FakeKube

MUTE = """
import os, socket, sys, time
os.chdir(sys.argv[1])
keep = []
for number in range(200):
    os.mkdir(f"c{number}-0"); os.chdir(f"c{number}-0")
    keep.append(socket.socket(socket.AF_UNIX))
    keep[-1].bind("launch.sock"); keep[-1].listen(64)
    os.chdir("..")
print("listening", flush=True)
for turn in range(10**6):  # the same sockets under new names: places that nobody knows yet
    for number in range(200):
        os.rename(f"c{number}-{turn}", f"c{number}-{turn + 1}")
    time.sleep(0.5)
"""


@contextmanager
def mute_places(volume: Path) -> Iterator[None]:
    """Show 200 sockets at which nobody answers, under new names twice a second."""
    volume.mkdir(parents=True)
    process = subprocess.Popen([sys.executable, "-c", MUTE, str(volume)], stdout=subprocess.PIPE)
    try:
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"listening\n"
            yield
            process.kill()
    finally:
        process.kill()


@pytest.mark.criu
async def test_the_sigterm_of_another_pod_is_answered_all_the_same(node: FakeNode) -> None:
    sound, hostile = node.pod("sound"), node.pod("hostile")
    answered: list[str] = []

    async def hold(pod: PodSession, capsule: CapsuleSession) -> None:
        await capsule.hold_term()
        answered.append(str(pod))

    async with Listener(node).listening() as listener:
        listener.acts["term"] = hold
        job = await sound.run()
        await listener.hears("ready", sound)
        await start(job)
        with mute_places(hostile.place("main").parent):
            await asyncio.sleep(3)  # long enough for every thread to be kept waiting
            job.signal(15)
            await FakeKube.until(lambda: answered)


def test_a_pod_with_more_bad_places_than_any_sound_one_is_left_alone_as_a_whole() -> None:
    suspended = Suspensions()
    fresh, other = (
        LauncherPlace(pod_uid="pod", container="fresh"),
        LauncherPlace(pod_uid="other", container="main"),
    )
    for number in range(1000):
        if not suspended.covers(place := LauncherPlace(pod_uid="pod", container=f"c{number}")):
            suspended.suspend(place)
    assert suspended.covers(fresh)
    assert not suspended.covers(other)
    suspended.forget(frozenset({"other"}))
    assert not suspended.covers(fresh)
