"""Launchers' sockets are seen the moment they appear, and nothing else is taken for one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from asyncinotify import Mask

from crikpy import names
from crikpy.agent.finding import Finder, Found
from crikpy.agent.places import LauncherPlace, pin
from crikpy.errors import NoLauncherError
from crikpy.settings import AgentSettings

PATIENCE_S = 10.0
NEVER_S = 3600.0
STEPS = ("volumes", "kubernetes.io~empty-dir", names.LAUNCHER_VOLUME)


class Watch:
    """A finder at work.

    Attributes:
        last: what the last look has shown.
        looks: how many there were.
    """

    def __init__(self, kubelet_dir: Path, rescan_s: float) -> None:
        self.last: Found | None = None
        self.looks = 0
        self._finder = Finder(AgentSettings(kubelet_dir=kubelet_dir, rescan_s=rescan_s))
        self._news = asyncio.Condition()

    async def run(self) -> None:
        async for found in self._finder.watch():
            async with self._news:
                self.last = found
                self.looks += 1
                self._news.notify_all()

    async def shows(self, *places: LauncherPlace) -> None:
        """Wait until exactly these launchers are seen."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: self.last is not None and self.last.launchers == set(places))

    async def shows_pods(self, *uids: str) -> None:
        """Wait until exactly these pods are seen."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: self.last is not None and self.last.pods == set(uids))


@contextlib.asynccontextmanager
async def watching(kubelet_dir: Path, rescan_s: float = NEVER_S) -> AsyncIterator[Watch]:
    watch = Watch(kubelet_dir, rescan_s)
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def kubelet(folder: Path) -> Path:
    (folder / "kubelet" / "pods").mkdir(parents=True)
    return folder / "kubelet"


def _volume(kubelet: Path, uid: str) -> Path:
    return kubelet.joinpath("pods", uid, *STEPS)


def _listen(directory: Path) -> socket.socket:
    """Make a socket where a launcher would."""
    directory.mkdir(parents=True, exist_ok=True)
    made = socket.socket(socket.AF_UNIX)
    parent = os.open(directory, os.O_PATH)
    made.bind(f"/proc/self/fd/{parent}/{names.LAUNCHER_SOCKET}")
    os.close(parent)
    return made


@contextlib.contextmanager
def _no_descriptors_left() -> Iterator[None]:
    """Let this process open nothing more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(link.name) for link in Path("/proc/self/fd").iterdir())
    spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(used + 1)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare) + 1, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in spare:
            os.close(fd)


def _place(uid: str, container: str = "main") -> LauncherPlace:
    return LauncherPlace(pod_uid=uid, container=container)


async def test_a_socket_that_was_there_before_is_found(kubelet: Path) -> None:
    uid = str(uuid.uuid4())
    with _listen(_volume(kubelet, uid) / "main"):
        async with watching(kubelet) as watch:
            await watch.shows(_place(uid))


async def test_a_socket_is_found_however_slowly_the_way_to_it_is_made(kubelet: Path) -> None:
    uid = str(uuid.uuid4())
    async with watching(kubelet) as watch:
        await watch.shows()
        path = kubelet / "pods" / uid
        for step in (*STEPS, "main"):
            path.mkdir()
            await watch.shows_pods(uid)
            await asyncio.sleep(0.1)
            path = path / step
        path.mkdir()
        await asyncio.sleep(0.1)
        with _listen(path):
            await watch.shows(_place(uid))


def test_what_is_made_between_two_steps_of_a_look_is_seen_by_it(kubelet: Path) -> None:
    uid = str(uuid.uuid4())
    way = [kubelet / "pods" / uid]
    for step in (*STEPS, "main"):
        way.append(way[-1] / step)
    way[0].mkdir()
    sockets: list[socket.socket] = []

    def arm(path: Path, _: Mask) -> None:
        """Take the next step as soon as the way so far is known."""
        reached = path.readlink()
        if reached in way[:-2]:
            way[way.index(reached) + 1].mkdir()
        elif reached == way[-2]:
            sockets.append(_listen(way[-1]))

    found = Finder(AgentSettings(kubelet_dir=kubelet))._look_at(uid, arm)
    assert found == [_place(uid)]
    sockets[0].close()


async def test_sockets_are_found_however_fast_the_way_to_them_is_made(kubelet: Path) -> None:
    uids = [str(uuid.uuid4()) for _ in range(30)]
    async with watching(kubelet) as watch:
        await watch.shows()
        with contextlib.ExitStack() as sockets:
            for uid in uids:
                for container in ("left", "right"):
                    sockets.enter_context(_listen(_volume(kubelet, uid) / container))
                await asyncio.sleep(0)
            await watch.shows(*(_place(uid, container) for uid in uids for container in ("left", "right")))


async def test_a_socket_in_place_of_another_and_a_pod_that_goes_are_noticed(kubelet: Path) -> None:
    uid = str(uuid.uuid4())
    path = _volume(kubelet, uid) / "main"
    async with watching(kubelet) as watch:
        with _listen(path):
            await watch.shows(_place(uid))
        (path / names.LAUNCHER_SOCKET).unlink()
        (path / "other").touch()
        await watch.shows()
        with _listen(path):
            await watch.shows(_place(uid))
        (path / names.LAUNCHER_SOCKET).unlink()
        (path / "other").unlink()
        for folder in (path, *list(path.parents)[:4]):
            folder.rmdir()
        await watch.shows_pods()


async def test_a_node_without_a_kubelet_yet_is_waited_for(folder: Path) -> None:
    kubelet = folder / "kubelet"
    uid = str(uuid.uuid4())
    async with watching(kubelet, rescan_s=0.05) as watch:
        await asyncio.sleep(0.2)
        assert watch.last is None
        with _listen(_volume(kubelet, uid) / "main"):
            await watch.shows(_place(uid))


async def test_without_the_kernels_help_sockets_are_found_by_looking_at_times(
    kubelet: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uid = str(uuid.uuid4())
    with contextlib.ExitStack() as want:
        want.enter_context(_no_descriptors_left())
        async with watching(kubelet, rescan_s=0.05) as watch:
            await asyncio.sleep(0.2)
            want.close()
            with _listen(_volume(kubelet, uid) / "main"):
                await watch.shows(_place(uid))
    assert caplog.text.count("the kernel does not watch for us") == 1


async def test_what_is_no_socket_of_a_launcher_is_no_launcher(kubelet: Path) -> None:
    uids = [str(uuid.uuid4()) for _ in range(5)]
    genuine = _volume(kubelet, uids[0]) / "main"
    with _listen(genuine), _listen(genuine.parent / "Not_a_label"), _listen(kubelet / "pods" / "no-uid" / "main"):
        fifo = _volume(kubelet, uids[1]) / "main"
        fifo.mkdir(parents=True)
        os.mkfifo(fifo / names.LAUNCHER_SOCKET)
        link = _volume(kubelet, uids[2]) / "main"
        link.mkdir(parents=True)
        (link / names.LAUNCHER_SOCKET).symlink_to(genuine / names.LAUNCHER_SOCKET)
        _volume(kubelet, uids[3]).mkdir(parents=True)
        (_volume(kubelet, uids[3]) / "main").symlink_to(genuine)
        _volume(kubelet, uids[4]).parent.mkdir(parents=True)
        _volume(kubelet, uids[4]).symlink_to(genuine.parent)
        async with watching(kubelet) as watch:
            await watch.shows_pods(*uids)
            await watch.shows(_place(uids[0]))
        for uid in uids[1:]:
            with pytest.raises(NoLauncherError):
                pin(kubelet, _place(uid))


async def test_a_pod_that_makes_files_without_end_hides_nobody_and_causes_few_looks(kubelet: Path) -> None:
    hostile, quiet = str(uuid.uuid4()), str(uuid.uuid4())
    busy = _volume(kubelet, hostile) / "main"
    busy.mkdir(parents=True)
    for number in range(1000):
        (busy.parent / f"c{number}").mkdir()
    async with watching(kubelet) as watch:
        await watch.shows()
        before = watch.looks
        for number in range(5000):
            (busy / f"f{number}").touch()
            if number % 10 == 0:
                await asyncio.sleep(0)
        with _listen(_volume(kubelet, quiet) / "main"):
            await watch.shows(_place(quiet))
        assert watch.looks - before < 200
