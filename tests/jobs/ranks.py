"""One of two ranks that step together: neither is ever more than one step ahead of the other, or the job fails.

Argument: a directory where it says how far it is (`mine`), and is told how far the other is (`theirs`), each by
the target of a link, since that is read and replaced at once and nothing stays open.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.jobs import proving


def told(where: Path) -> int | None:
    """Return how far the other is, None before it has said so."""
    try:
        return int(os.readlink(where))
    except FileNotFoundError:
        return None


def tell(where: Path, step: int) -> None:
    """Say how far this one is."""
    new = where.with_name(".new")
    new.unlink(missing_ok=True)
    new.symlink_to(str(step))
    new.rename(where)


def main() -> None:
    """Step until the test has enough."""
    folder, step = Path(sys.argv[1]), 0
    proving.block()
    proving.say("ready")
    while True:
        asked = signal.sigtimedwait({proving.ASK, proving.FINISH}, 0.01)
        if asked is not None and asked.si_signo == proving.FINISH:
            return
        other = told(folder / "theirs")
        if other is not None and abs(other - step) > 1:
            raise AssertionError(f"this one is at {step}, the other at {other}")
        if asked is not None:
            proving.say(f"proved {step}")
        if other is not None and other >= step:
            step += 1
        tell(folder / "mine", step)


main()
