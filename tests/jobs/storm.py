"""A job that forks wildly: several processes, each of which has children that have children, as fast as they can.

Its proof is that all of them go on, and that none has ended in another way than it should.
"""

from __future__ import annotations

import mmap
import os
import signal

from tests.jobs import proving

_BREEDERS = 6
_CELL = 8
_FAULT = 2**63
_CHILD, _GRANDCHILD = 7, 9


def breed(cells: mmap.mmap, place: int) -> None:
    """Have children for ever, and count them; a fault ends it."""
    count = 0
    while True:
        child = os.fork()
        if child == 0:
            grandchild = os.fork()
            if grandchild == 0:
                os._exit(_GRANDCHILD)
            os._exit(_CHILD if status_of(grandchild) == _GRANDCHILD else 1)
        if status_of(child) != _CHILD:
            write(cells, place, _FAULT)
            os._exit(1)
        count += 1
        write(cells, place, count)


def status_of(child: int) -> int:
    """Wait for a child's end."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def write(cells: mmap.mmap, place: int, value: int) -> None:
    """Write a breeder's count."""
    cells[place * _CELL : (place + 1) * _CELL] = value.to_bytes(_CELL, "little")


def read(cells: mmap.mmap) -> list[int]:
    """Return how many children each has had."""
    return [int.from_bytes(cells[at : at + _CELL], "little") for at in range(0, _BREEDERS * _CELL, _CELL)]


def main() -> None:
    """Begin; at each proof all must have gone on since the last one."""
    proving.block()
    cells = mmap.mmap(-1, _BREEDERS * _CELL)
    breeders = []
    for place in range(_BREEDERS):
        pid = os.fork()
        if pid == 0:
            breed(cells, place)
        breeders.append(pid)

    def prove(count: int) -> None:
        before = read(cells)
        while not all(now > then for now, then in zip(read(cells), before, strict=True)):
            proving.check_equal(_FAULT in read(cells), False, "a fault")
            signal.sigtimedwait(set(), 0.01)

    proving.stand_by(prove)
    for pid in breeders:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
