"""A job that ends as its argument says, once it is told to: with a number, or by a signal `SIG…`.

Before, it proves that it catches signals, and counts those that it has caught.
"""

from __future__ import annotations

import os
import signal
import sys

from tests.jobs import proving


def main() -> None:
    """Stand by, then end."""
    caught: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, frame: caught.append(number))
    signal.signal(signal.SIGWINCH, signal.SIG_IGN)
    proving.stand_by(lambda count: proving.say(f"caught {len(caught)}"))
    if sys.argv[1].startswith("SIG"):
        os.kill(os.getpid(), signal.Signals[sys.argv[1]])
    sys.exit(int(sys.argv[1]))


if __name__ == "__main__":
    main()
