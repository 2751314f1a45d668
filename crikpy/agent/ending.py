"""The time between a complete checkpoint and the jobs' end: they stand still, and the agent alone keeps them so.

They end with status 75 once something wants their end, which is a SIGTERM: to end earlier would make kubelet start
them again on a node that dies, or their controller count a failure. When nothing asks for their end any more, they
run on; those that have saved themselves and ended cannot, and end with 75 then as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from enum import Enum, auto
from functools import partial

from crikpy.agent.acts import Act
from crikpy.agent.sessions import Activity
from crikpy.agent.threads import in_thread
from crikpy.aio.clock import Deadline
from crikpy.errors import CrikpyError
from crikpy.flows.saving import Saved

_log = logging.getLogger(__name__)

_ASK_S = 5.0
_TELL_S = 2.0
_REGROUP_S = 300.0
"""How long saved jobs that would be spared still wait for their end when others of their group have moved."""

_LOOK_S = 1.0
"""Between two looks at whether they have to end; their SIGTERM is heard at once besides."""


class Ending(Enum):
    """What became of saved jobs."""

    ENDED = auto()
    SPARED = auto()
    LEFT = auto()


async def await_end(act: Act, saved: Saved, *, spare_s: float, leaving: Callable[[], bool]) -> Ending:
    """Keep saved jobs until it is decided what becomes of them, and do that.

    Args:
        act: the save; its session's activity is HELD.
        saved: its jobs.
        spare_s: how long after the expected end of the machine they still wait for their own.
        leaving: whether this agent ends, which lets them run on; whoever comes next saves them again.
    """
    since = Deadline.after(0)
    regrouped = Deadline(act.held_until(since, spare_s).at + _REGROUP_S)
    try:
        while True:
            act.stirred.clear()
            if act.end_wanted or await in_thread(None, saved.wait_term, Deadline.after(0)):
                await _end(act, saved)
                return Ending.ENDED
            if not saved.can_run_on and (leaving() or _spared(act, since, spare_s)):
                await _end(act, saved)
                return Ending.ENDED
            if leaving():
                await _run_on(act, saved)
                return Ending.LEFT
            if _spared(act, since, spare_s) and not (await _moves_with_group(act) and not regrouped.expired()):
                if await _resumed_elsewhere(act, saved):
                    await _end(act, saved)
                    return Ending.ENDED
                if not _spared(act, since, spare_s):
                    continue  # something has come meanwhile that wants their end
                await _run_on(act, saved)
                return Ending.SPARED
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await act.stirred.wait()
    except asyncio.CancelledError:
        saved.run_on()
        raise


def _spared(act: Act, since: Deadline, spare_s: float) -> bool:
    return not act.ends_jobs or act.held_until(since, spare_s).expired()


async def _resumed_elsewhere(act: Act, saved: Saved) -> bool:
    """Say whether the jobs go on in another pod already: this node was cut off, and was given up.

    A store that does not answer soon keeps no job from running on.
    """
    try:
        async with asyncio.timeout(_ASK_S):
            resumed = await asyncio.to_thread(saved.resumed_elsewhere)
    except (TimeoutError, CrikpyError) as fault:
        _log.warning("nobody says whether saved jobs were resumed elsewhere: %s", fault)
        return False
    if resumed:
        _log.warning("saved jobs end here: another pod has resumed them")
    return resumed


async def _moves_with_group(act: Act) -> bool:
    """Say whether another member of the group has ended in order to move, so that ours has to; else all stay."""
    if act.company is None:
        return False
    try:
        async with asyncio.timeout(_ASK_S):
            return await asyncio.to_thread(partial(act.company.leaves, ends=False))
    except (TimeoutError, CrikpyError) as fault:
        _log.warning("nobody says whether a group has moved: %s", fault)
        return False


async def _tell_group(act: Act) -> None:
    """Say that our member moves, so that no other runs on; its SIGTERM does not wait for that for long."""
    if act.company is None:
        return
    with contextlib.suppress(TimeoutError, CrikpyError):
        async with asyncio.timeout(_TELL_S):
            await asyncio.to_thread(partial(act.company.leaves, ends=True))


async def _end(act: Act, saved: Saved) -> None:
    session = act.session
    await _tell_group(act)
    async with session.lock:
        act.saved = session.saved = None
        session.moved = True  # before the launchers tell of their end, lest the jobs are taken for finished
        session.activity = Activity.ENDED
        try:
            await in_thread(None, saved.end)
        except CrikpyError as fault:
            _log.warning("saved jobs were killed, but a launcher stays: %s", fault)
    _log.info("the saved jobs have ended here")


async def _run_on(act: Act, saved: Saved) -> None:
    session = act.session
    async with session.lock:
        wanted = act.end_wanted
        if not wanted:
            act.saved = session.saved = None
            await in_thread(None, saved.run_on)
    if wanted:
        await _end(act, saved)
        return
    async with session.lock:
        if session.activity is Activity.HELD:
            session.activity = Activity.RUNNING
    _log.info("the saved jobs run on")
