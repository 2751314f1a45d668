"""A job that becomes another program all the time: its only process replaces itself by exec, again and again.

Its proof is that it is still the same process, on its way from one program to the next: how often it has changed
it knows from its arguments; what it was given in the beginning lies in a file without a name that it keeps open.
"""

from __future__ import annotations

import os
import signal
import sys

from tests.jobs import proving


def main() -> None:
    """Look whether somebody asks, then become the next program."""
    proving.block()
    if len(sys.argv) == 1:
        kept = os.memfd_create("kept", 0)
        os.write(kept, str(os.getpid()).encode())
        proving.say("ready")
        become(kept, 1)
    kept, count = int(sys.argv[1]), int(sys.argv[2])
    asked = signal.sigtimedwait({proving.ASK, proving.FINISH}, 0.01)
    if asked is not None and asked.si_signo == proving.FINISH:
        return
    if asked is not None:
        proving.check_equal(os.pread(kept, 100, 0), str(os.getpid()).encode(), "what it was given")
        proving.say(f"proved {count}")
    become(kept, count + 1)


def become(kept: int, count: int) -> None:
    """Run the next program in place of this one."""
    os.execv(sys.executable, (sys.executable, "-S", "-m", "tests.jobs.changing", str(kept), str(count)))


if __name__ == "__main__":
    main()
