"""A job that waits for one alarm, and has more memory than CRIU reads in a moment."""

from __future__ import annotations

import os
import signal
import sys

from tests.jobs import proving


def main(mebibytes: int, seconds: float) -> None:
    """Wait for it."""
    memory = os.urandom(mebibytes << 20)
    rung = []
    signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    proving.say("ready")
    while not rung:
        signal.pause()
    proving.say(f"rang {len(rung)} {len(memory) >> 20}")


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
