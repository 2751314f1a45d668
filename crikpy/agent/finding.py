"""Sees launchers' sockets appear below kubelet's directory, the moment that they do.

The kernel (inotify) only says that something has changed; what there is, is found by looking at all of it, which
takes a few milliseconds. So an event that is lost or late delays and never misleads, and a pod that makes many
files causes no more looks than one that makes few: each watch reports once and is armed anew by the next look.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from asyncinotify import Inotify, Mask

from crikpy.agent import places
from crikpy.agent.places import LauncherPlace
from crikpy.aio.clock import Deadline
from crikpy.settings import AgentSettings

_log = logging.getLogger(__name__)

_ONCE = Mask.ONESHOT | Mask.ONLYDIR
_CHANGES = Mask.CREATE | Mask.MOVED_TO | Mask.DELETE_SELF | _ONCE
_PODS = Mask.CREATE | Mask.DELETE | Mask.MOVED_TO | _ONCE

_LEAST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0
"""Between a change and the look at it; it grows while changes follow each look at once and show nothing new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look has shown.

    Attributes:
        pods: UIDs of all pods that kubelet has directories for.
        launchers: where there are sockets of launchers; whether anybody listens is another matter.
    """

    pods: frozenset[str]
    launchers: frozenset[LauncherPlace]


class Finder:
    """Looks at kubelet's directory of pods."""

    def __init__(self, settings: AgentSettings) -> None:
        self._kubelet_dir = settings.kubelet_dir
        self._rescan_s = settings.rescan_s
        self._readable = True

    async def watch(self) -> AsyncIterator[Found]:
        """Yield what there is, at once after each change and every `rescan_s` besides; for ever."""
        last: Found | None = None
        pause_s = _LEAST_PAUSE_S
        with _Alarm() as alarm:
            while True:
                found = await asyncio.to_thread(self._look, alarm.arm)
                if found is not None:
                    yield found
                looked_at = time.monotonic()
                if not await alarm.wait(Deadline.after(self._rescan_s)):
                    continue
                restless = found == last and time.monotonic() - looked_at < pause_s
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S) if restless else _LEAST_PAUSE_S
                last = found
                await asyncio.sleep(pause_s)
                alarm.forget()

    def _look(self, arm: Callable[[Path, Mask], None]) -> Found | None:
        """Return what there is now, everything armed before it is looked at."""
        try:
            arm(self._kubelet_dir / "pods", _PODS)
            pods = places.pod_uids(self._kubelet_dir)
        except OSError as fault:
            if self._readable:
                _log.warning("kubelet's pods cannot be seen: %s", fault)
            self._readable = False
            return None
        self._readable = True
        launchers: set[LauncherPlace] = set()
        for pod_uid in pods:
            with contextlib.suppress(OSError):  # it is just being removed
                launchers.update(self._look_at(pod_uid, arm))
        return Found(pods=pods, launchers=frozenset(launchers))

    def _look_at(self, pod_uid: str, arm: Callable[[Path, Mask], None]) -> list[LauncherPlace]:
        """Return the launchers of one pod; where the way to its volume ends for now, its going on is told."""
        found: list[LauncherPlace] = []
        with places.opened_steps(self._kubelet_dir, pod_uid) as (deepest, complete):
            arm(places.path_of(deepest), _CHANGES)
            if not complete:
                return found if _ends_at(deepest, self._kubelet_dir, pod_uid) else self._look_at(pod_uid, arm)
            for container in places.containers_in(deepest):
                with contextlib.suppress(OSError), places.opened_container(deepest, container) as directory:
                    arm(places.path_of(directory), _CHANGES)
                    if places.has_socket(directory):
                        found.append(LauncherPlace(pod_uid=pod_uid, container=container))
        return found


def _ends_at(directory: int, kubelet_dir: Path, pod_uid: str) -> bool:
    """Say whether the way to a pod's volume still ends there: what came before it was armed would not be told."""
    with places.opened_steps(kubelet_dir, pod_uid) as (deepest, _):
        return os.path.samestat(os.fstat(deepest), os.fstat(directory))


class _Alarm:
    """Tells that a directory has changed; without the kernel's help (its limits are reached) it tells nothing."""

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._complained = False

    def __enter__(self) -> _Alarm:
        try:
            self._inotify = Inotify(sync_timeout=0)
        except OSError as fault:
            self._complain(fault)
        return self

    def __exit__(self, *_: object) -> None:
        if self._inotify is not None:
            self._inotify.close()

    def arm(self, path: Path, mask: Mask) -> None:
        """Have the next change of a directory told, once; what happened before is not."""
        if self._inotify is None:
            return
        try:
            self._inotify.add_watch(path, mask)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as fault:
            self._complain(fault)

    async def wait(self, deadline: Deadline) -> bool:
        """Wait for a change; False when none came."""
        if self._inotify is None:
            await asyncio.sleep(deadline.remaining())
            return False
        try:
            async with asyncio.timeout(deadline.remaining()):
                await self._inotify.get()
        except TimeoutError:
            return False
        return True

    def forget(self) -> None:
        """Drop what has come meanwhile, before the next look sees it anyway."""
        while self._inotify is not None and self._inotify.sync_get() is not None:
            pass

    def _complain(self, fault: OSError) -> None:
        if not self._complained:
            _log.warning(
                "launchers are found late, by looking at times: the kernel does not watch for us (%s)",
                fault,
                extra={"remedy": "raise fs.inotify.max_user_watches and max_user_instances"},
            )
        self._complained = True
