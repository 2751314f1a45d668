"""A job that never holds still: children are born, run other programs and end, all the time; each is counted.

Its proof is that none of them was lost, and none ended in another way than it should.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

from tests.jobs import proving

_FORKED, _RUN = 7, 9


class Breeder(threading.Thread):
    """Has children until it is told to stop.

    Attributes:
        born: how many have ended as they should.
        fault: why it stopped, if it was not told to.
    """

    def __init__(self, *, runs: bool) -> None:
        super().__init__()
        self.born = 0
        self.fault = ""
        self.enough = threading.Event()
        self._runs = runs

    def run(self) -> None:
        """Have one child after another."""
        while not self.enough.is_set():
            expected = _RUN if self._runs else _FORKED
            status = self._run() if self._runs else self._fork()
            if status != expected:
                self.fault = f"a child ended with {status} instead of {expected}"
                return
            self.born += 1

    def _run(self) -> int:
        return subprocess.run((sys.executable, "-S", "-c", f"import os; os._exit({_RUN})"), check=False).returncode

    def _fork(self) -> int:
        child = os.fork()
        if child == 0:
            os._exit(_FORKED)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """Breed; at each proof both must have gone on since the last one."""
    proving.block()
    breeders = [Breeder(runs=False), Breeder(runs=True)]
    for breeder in breeders:
        breeder.start()

    def prove(count: int) -> None:
        for breeder in breeders:
            proving.check_equal(breeder.fault, "", "a child's end")
            before = breeder.born
            while breeder.born == before and not breeder.fault:
                signal.sigtimedwait(set(), 0.01)

    proving.stand_by(prove)
    for breeder in breeders:
        breeder.enough.set()
        breeder.join()


if __name__ == "__main__":
    main()
