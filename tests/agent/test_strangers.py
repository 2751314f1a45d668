"""What listens in a launcher's place and is none, or none of this pod, is left alone and disturbs nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from crikpy import names
from crikpy.aio.clock import Deadline
from crikpy.capsule.launcher import LauncherConnection
from crikpy.model.capsule import JobPhase
from tests.agent.listening import Listener, start
from tests.agent.node import FakeNode
from tests.fakes.kube import FakeKube
from tests.fakes.launcher import WAITING, launcher, says
from tests.integration.capsules import PATIENCE_S

pytestmark = pytest.mark.criu

until = FakeKube.until

INTRUDER = f"""
import os, socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind("{names.LAUNCHER_DIR}/{names.LAUNCHER_SOCKET}")
listener.listen(8)
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    print("met", flush=True)
    try:
        %s
    except OSError:
        pass
"""
MUTE = "connection.recv(1)"
STUTTERS = "connection.sendall(b'crikpy-launch 1 wai'); connection.recv(1)"
OTHER_WORDS = "connection.sendall(b'HTTP/1.1 400 Bad Request\\r\\n\\r\\n')"
_SOUND = "connection.sendall(b'crikpy-launch 1 running 9001 -1\\nok running 9001 -1\\n'); time.sleep(0.5); "
LATER_NONSENSE = f"{_SOUND}connection.sendall(b'nonsense\\n'); connection.recv(99)"
BABBLES = f"{_SOUND}connection.sendall(b'event term\\n' * 10000000)"
HALF_A_LINE = f"{_SOUND}connection.sendall(b'event te'); time.sleep(3600)"


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(MUTE, id="mute"),
        pytest.param(STUTTERS, id="stutters"),
        pytest.param(OTHER_WORDS, id="other words"),
        pytest.param(LATER_NONSENSE, id="later nonsense"),
        pytest.param(BABBLES, id="babbles"),
        pytest.param(HALF_A_LINE, id="half a line"),
    ],
)
async def test_a_first_process_that_is_no_launcher_is_left_alone_and_disturbs_nobody(
    node: FakeNode, caplog: pytest.LogCaptureFixture, behaviour: str
) -> None:
    hostile, sound = node.pod("hostile"), node.pod("sound")
    intruder = await hostile.intrude(INTRUDER % behaviour)
    async with Listener(node).listening() as listener:
        job = await sound.run()
        await listener.hears("ready", sound)
        await start(job)
        job.signal(signal.SIGTERM)
        await listener.hears("term", sound)
        await listener.capsule(sound).pass_term()
        await listener.hears(f"ended {128 + signal.SIGTERM}", sound)
        await until(lambda: "is left alone for a while" in caplog.text)
        await asyncio.sleep(2.0)  # several looks
        assert intruder.stdout.text().count("met") == 1


def _briefly(node: FakeNode, place: Path) -> Path:
    """Return a path of a launcher's socket that is short enough for an address."""
    (node.folder / "p").symlink_to(place)
    return node.folder / "p" / names.LAUNCHER_SOCKET


async def test_a_listener_outside_of_the_pod_is_no_launcher(
    node: FakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    pod = node.pod()
    place = pod.place("main")
    place.mkdir(parents=True)
    heard: list[str] = []
    with launcher(_briefly(node, place), says(WAITING, b"ok waiting 0 -1\n", heard=heard)):
        async with Listener(node).listening() as listener:
            await until(lambda: "is left alone for a while" in caplog.text)
            assert not listener.sessions.pods
    assert "not the first process" in caplog.text
    assert not heard, "nothing is asked of it"


async def test_the_launcher_of_another_pod_is_not_reached_through_this_one(
    node: FakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    victim, hostile = node.pod("victim"), node.pod("hostile")
    await victim.run()
    place = hostile.place("main")
    place.mkdir(parents=True)
    os.link(victim.place("main") / names.LAUNCHER_SOCKET, place / names.LAUNCHER_SOCKET)
    async with Listener(node).listening() as listener:
        await listener.hears("ready", victim)
        await until(lambda: "belongs to another" in caplog.text)
        assert hostile.uid not in listener.sessions.pods


async def test_a_socket_that_is_put_in_the_place_of_a_launchers_is_not_taken_for_it(node: FakeNode) -> None:
    pod = node.pod()
    async with Listener(node).listening() as listener:
        job = await pod.run()
        await listener.hears("ready", pod)
        capsule = listener.capsule(pod)
        (pod.place("main") / names.LAUNCHER_SOCKET).unlink()
        with launcher(_briefly(node, pod.place("main")), says(WAITING)):
            with LauncherConnection(capsule.socket, Deadline.after(PATIENCE_S)) as connection:
                assert connection.launcher_pid == job.launcher_pid
            assert (await capsule.refresh()).phase is JobPhase.WAITING


HANDS_ON = f"""
import os, socket
listener, other = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
for bound, name in ((listener, "{names.LAUNCHER_SOCKET}"), (other, "accomplice")):
    bound.bind("{names.LAUNCHER_DIR}/" + name)
    bound.listen(8)
print("listening", flush=True)
connection, _ = listener.accept()
connection.sendall(b"crikpy-launch 1 running 9001 -1\\nok running 9001 -1\\n")
accomplice, _ = other.accept()
socket.send_fds(accomplice, [b"x"], [listener.fileno(), connection.fileno()])
accomplice.recv(1)
"""
"""What has come by it is kept open elsewhere, as in a container beside, when it has ended."""


async def test_a_launcher_that_ended_is_none_any_more_though_others_keep_its_connections(node: FakeNode) -> None:
    pod = node.pod()
    await pod.intrude(HANDS_ON)
    async with Listener(node).listening() as listener:
        await listener.hears("running", pod)
        with socket.socket(socket.AF_UNIX) as accomplice:
            accomplice.connect(str(_briefly(node, pod.place("main")).parent / "accomplice"))
            _, kept, _, _ = socket.recv_fds(accomplice, 1, 2)
        try:
            await until(
                lambda: pod.uid not in listener.sessions.pods or not listener.sessions.pods[pod.uid].capsules
            )
        finally:
            for descriptor in kept:
                os.close(descriptor)
