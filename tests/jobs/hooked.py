"""Hears of its checkpoints by crikpy.job, says what it has heard, and proves that nothing is lost.

    hooked [slow|deaf|failing|held]

`slow` has a callback that takes longer than anybody waits, `deaf` keeps the interpreter to itself meanwhile,
`failing` has a callback that fails, and `held` a section that does not end as long as anybody waits.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time

from crikpy import job
from tests.jobs import proving

_heard: list[str] = []
_lock = threading.Lock()


def _hear(text: str) -> None:
    with _lock:
        _heard.append(text)
    proving.say(f"heard {text}")


def _before(coming: job.Coming) -> None:
    proving.check_equal(coming.seconds > 0, True, "that there is time left")
    _hear("checkpoint")
    if "failing" in sys.argv:
        raise RuntimeError("cannot\nsay why")
    if "slow" in sys.argv:
        time.sleep(3.0)


def _after(resumed: job.Resumed) -> None:
    with job.freeze_barrier():
        place = resumed.environment.get("PLACE", "-")
        _hear(f"{resumed.outcome} {place} {resumed.hostname == os.uname().nodename}")


def _hold(begun: threading.Event) -> None:
    with job.freeze_barrier():
        begun.set()
        time.sleep(3.0)


def _keep_the_interpreter() -> None:
    """Sleep as a library in C does that never lets other threads in."""
    proving.say("deaf")
    ctypes.PyDLL(None).sleep(3)


@job.freeze_barrier()
def _count(count: int) -> int:
    with job.freeze_barrier():
        return count + 1


def main() -> None:
    proving.block()
    job.on_checkpoint(_before)
    job.on_restore(_after)
    if "held" in sys.argv:
        begun = threading.Event()
        threading.Thread(target=_hold, args=(begun,), daemon=True).start()
        begun.wait()
    counts = [0]

    def prove(number: int) -> None:
        counts[0] = _count(counts[0])
        proving.check_equal(counts[0], number, "the count")
        if "deaf" in sys.argv and number == 1:
            threading.Timer(0.1, _keep_the_interpreter).start()

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
