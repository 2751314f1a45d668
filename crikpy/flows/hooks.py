"""What jobs hear of their checkpoints: before they are stopped, and once they go on.

A job is asked, never obeyed: whoever does not answer in time, fails, or tells nonsense is saved all the same, and
an event says so. All are asked at once, within one bound, and nobody is connected to while CRIU looks.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from crikpy.aio.clock import Deadline
from crikpy.aio.threads import Pool
from crikpy.capsule import hooks, procfs
from crikpy.capsule.hooks import Answer, JobListener
from crikpy.errors import CapsuleError, DeadlineError
from crikpy.flows.members import Member
from crikpy.flows.reporting import Reporter
from crikpy.flows.stopping import Inhabitants
from crikpy.model.saving import signal_name

_SHARE = 0.25
"""Of the time that is left for a checkpoint, the most that is given to the jobs before they are stopped."""

_AT_ONCE = 16
_LOOK_S = 0.05
_MOST_FAULTS = 5


class Outcome(StrEnum):
    """What has become of a job that goes on."""

    MOVED = "moved"
    CONTINUED = "continued"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearer:
    """One capsule that is told.

    Attributes:
        member: the capsule, and what it wants to hear.
        inhabitants: its processes.
        root_pid: PID of the job's root inside.
    """

    member: Member
    inhabitants: Inhabitants
    root_pid: int


class Hooks:
    """Those who are told of one checkpoint; every method bears whatever the jobs do.

    Attributes:
        hearers: the capsules, in the order in which they were given.
    """

    def __init__(self, hearers: Sequence[Hearer], reporter: Reporter) -> None:
        self.hearers = tuple(hearers)
        self._reporter = reporter
        self._expecting = False
        """They were told of a checkpoint, and not yet what became of it."""

    def before(self, deadline: Deadline) -> None:
        """Tell all that they are about to be stopped, and wait for them, for a part of the time that is left.

        Args:
            deadline: when the checkpoint must be complete.
        """
        self._expecting = True
        limit = Deadline.after(deadline.remaining() * _SHARE)
        sent = [one for one in self.hearers if self._send(one, one.member.saving.signal_before)]
        wait_s = max((one.member.saving.signal_wait_s for one in sent), default=0.0)
        until = limit.earlier(wait_s)
        self._tell_all(f"checkpoint {deadline.remaining():.1f}", limit)
        self._sleep(until)

    def save(self, deadline: Deadline) -> tuple[str, ...]:
        """Have every process that can save its job do so; return for each capsule why it was not, or nothing."""
        self._expecting = True
        told = self._ask_all(f"save {deadline.remaining():.1f}", deadline, only_savers=True)
        return tuple("; ".join(_faults(answers)) if answers else "nobody answered" for answers in told)

    def savers(self) -> tuple[bool, ...]:
        """Say for each capsule whether a process of it can save the job."""
        deadline = Deadline.after(self._timeout_s())
        found = (self._each(one, _is_saver, deadline) for one in self.hearers)
        return tuple(any(answer is not None and answer.ready for answer in answers) for answers in found)

    def after(self, outcome: Outcome) -> None:
        """Tell all what has become of them; those who expect nothing are told of a move only."""
        if not self._expecting and outcome is not Outcome.MOVED:
            return
        self._expecting = False
        for one in self.hearers:
            options = one.member.saving
            self._send(one, options.signal_restored if outcome is Outcome.MOVED else 0)
            self._send(one, options.signal_after)
        self._tell_all(f"after {outcome}", Deadline.after(self._timeout_s()))

    def _timeout_s(self) -> float:
        return max((one.member.saving.hook_timeout_s for one in self.hearers), default=0.0)

    def _tell_all(self, request: str, limit: Deadline) -> None:
        """Tell every process that listens, and tell of those that did not do what they should."""
        told = self._ask_all(request, limit.earlier(self._timeout_s()))
        faults = [
            f"{_name(one)}: {fault}"
            for one, answers in zip(self.hearers, told, strict=True)
            for fault in _faults(answers)
        ]
        if faults:
            more = f"; and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
            word = request.partition(" ")[0]
            text = f"the job was told `{word}`: {'; '.join(faults[:_MOST_FAULTS])}{more}"
            self._reporter.event("hook-failed", text, told=word)

    def _ask_all(self, request: str, deadline: Deadline, *, only_savers: bool = False) -> list[list[Answer]]:
        """Ask every process that listens; return the answers of each capsule."""
        ask = partial(_asked, request, only_savers=only_savers)
        with Pool(max(1, min(_AT_ONCE, len(self.hearers)))) as threads:
            told = threads.map(lambda one: self._each(one, ask, deadline), self.hearers)
            return [[answer for answer in answers if answer is not None] for answers in told]

    def _each(
        self, one: Hearer, act: Callable[[JobListener, Deadline], Answer | None], deadline: Deadline
    ) -> list[Answer | None]:
        """Do something with every process of a capsule that listens, all at once."""
        launcher, directory = one.inhabitants.folder, one.member.capsule.hooks
        named = hooks.listeners(launcher, directory)
        outside = one.inhabitants.outside() if named else {}
        found = {name: outside[inner] for name, inner in named.items() if inner in outside}
        if not found:
            return []

        def talk(name: str) -> Answer | None:
            try:
                with JobListener(launcher, found[name], f"{directory}/{name}") as listener:
                    return act(listener, deadline)
            except (CapsuleError, DeadlineError) as fault:
                return Answer(ready=False, reason=f"{name.removesuffix('.sock')}: {fault.message}")
            except OSError as fault:
                return Answer(ready=False, reason=f"{name.removesuffix('.sock')}: {fault.strerror}")

        with Pool(min(_AT_ONCE, len(found))) as threads:
            return list(threads.map(talk, found))

    def _send(self, one: Hearer, number: int) -> bool:
        """Send the job's root a signal that it handles; one that it does not would end it."""
        if not number:
            return False
        sent = one.inhabitants.send(one.root_pid, number, only_if=handles)
        if not sent:
            text = f"{_name(one)} was not sent {signal_name(number)}: it does not handle it, and would end"
            self._reporter.event("signal-not-sent", text, signal=signal_name(number))
        return sent

    def _sleep(self, until: Deadline) -> None:
        """Give signals the time to work, unless a job ends of them."""
        while not until.expired():
            if any(one.root_pid not in one.inhabitants.pids().values() for one in self.hearers):
                return
            time.sleep(min(_LOOK_S, until.remaining()))


def handles(folder: Path, number: int) -> bool:
    """Say whether a process, by its folder below /proc, handles a signal."""
    with contextlib.suppress(OSError, KeyError, ValueError):
        return bool(int(procfs.read_status(folder)["SigCgt"], 16) >> (number - 1) & 1)
    return False


def _asked(request: str, listener: JobListener, deadline: Deadline, *, only_savers: bool) -> Answer | None:
    if only_savers and _is_saver(listener, deadline) is None:
        return None
    # What has become of a job may be told late; a checkpoint may not.
    return listener.ask(request, deadline, take_back=not request.startswith("after"))


def _is_saver(listener: JobListener, deadline: Deadline) -> Answer | None:
    answer = listener.ask("who", deadline)
    return answer if answer.word == "saves" else None


def _faults(answers: Sequence[Answer]) -> list[str]:
    return [answer.reason for answer in answers if not answer.ready]


def _name(one: Hearer) -> str:
    return one.member.workload.name
