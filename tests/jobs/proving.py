"""How a job of the tests speaks with its test: it says `ready`, and at each SIGUSR1 proves its state.

The signals come by way of the launcher, so every proof is also one of signals. A proof that fails ends the job
with a traceback, which the test shows. Standard library only, nothing of crikpy: these are other people's jobs.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable

ASK, FINISH = signal.SIGUSR1, signal.SIGUSR2


def block() -> None:
    """Keep the signals for `stand_by`; call it before threads or processes are begun."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {ASK, FINISH})


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def stand_by(prove: Callable[[int], object]) -> None:
    """Prove the state each time that it is asked for, counting from 1; return when the job shall finish."""
    block()
    say("ready")
    count = 0
    while signal.sigwait({ASK, FINISH}) == ASK:
        count += 1
        prove(count)
        say(f"proved {count}")


def check_equal(found: object, expected: object, what: str) -> None:
    """Fail unless both are the same."""
    if found != expected:
        raise AssertionError(f"{what}: {found!r} instead of {expected!r}")


def check_all(facts: Iterable[tuple[object, object, str]]) -> None:
    """Fail unless all are the same."""
    for found, expected, what in facts:
        check_equal(found, expected, what)
