"""A job whose processes lose their parents, and stay with its first one, whoever led their sessions and groups.

There are an orphan of its own session, one with a child, one in a group whose leader has ended, two daemons in a
session whose leader has ended, one daemon that leads its own, and a zombie for whom nobody ever asks.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.jobs import proving

_STATUS = 7


def _bear(act: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        act()
        os._exit(0)
    return child


def _stay() -> None:
    """Live until a SIGTERM."""
    signal.sigwait({signal.SIGTERM})
    os._exit(_STATUS)


def _lose(*acts: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> list[int]:
    """Return the PIDs of processes that do this, and whose parent ends once all of them are born."""
    reading, writing = os.pipe()

    def child(act: Callable[[], object]) -> None:
        os.close(writing)
        act()

    def parent() -> None:
        prepare()
        for act in acts:
            os.write(writing, b"%d\n" % _bear(partial(child, act)))

    os.waitpid(_bear(parent), 0)
    os.close(writing)
    with os.fdopen(reading) as told:
        return [int(line) for line in told.read().split()]


def _fertile() -> None:
    """Have a child of one's own."""
    _bear(_stay)
    _stay()


def _leading() -> None:
    os.setsid()
    _stay()


def _family() -> dict[int, tuple[str, ...]]:
    """Return state, parent, group and session of everybody below this process; whoever looks has a look at all."""
    found: dict[int, tuple[str, ...]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and path.name != "1":
            words = (path / "stat").read_text().rpartition(")")[2].split()
            found[int(path.name)] = tuple(words[:4])
    return {pid: facts for pid, facts in found.items() if _descends(pid, found)}


def _descends(pid: int, family: dict[int, tuple[str, ...]]) -> bool:
    while pid in family and pid != os.getpid():
        pid = int(family[pid][1])
    return pid == os.getpid()


def main() -> None:
    """Lose parents, and find all of them again."""
    proving.block()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    lost = [
        *_lose(_stay),
        *_lose(_fertile),
        *_lose(_stay, prepare=os.setpgrp),
        *_lose(_stay, _stay, prepare=os.setsid),
        *_lose(_leading),
    ]
    (zombie,) = _lose(lambda: os._exit(_STATUS))
    before = _family()
    while sorted(facts[0] for facts in before.values()) != ["R", *"S" * (len(lost) + 1), "Z"]:
        time.sleep(0.01)
        before = _family()
    parents = {before[pid][1] for pid in (*lost, zombie)}
    proving.check_equal(parents, {str(os.getpid())}, "parents of the lost ones")

    def prove(count: int) -> None:
        proving.check_equal(_lasting(_family()), _lasting(before), f"whom there is, time {count}")

    proving.stand_by(prove)
    for pid in lost:
        os.kill(pid, signal.SIGTERM)
    for pid in (*lost, zombie):
        proving.check_equal(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), _STATUS, f"the status of {pid}")


def _lasting(family: dict[int, tuple[str, ...]]) -> dict[int, tuple[object, ...]]:
    """Return what does not change while they sleep and wake: whether they are dead, and the rest."""
    return {pid: (state == "Z", *others) for pid, (state, *others) in family.items()}


if __name__ == "__main__":
    main()
