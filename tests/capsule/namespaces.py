"""Real namespaces with an init, for the tests of what reaches into them."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psutil

PATIENCE_S = 20.0


@contextmanager
def inside(script: str = "", kinds: Sequence[str] = ("--mount-proc",)) -> Iterator[int]:
    """Lend the PID, as seen from here, of the first process of a new PID namespace.

    Args:
        script: what its shell does before it waits; children that it starts stay.
        kinds: further options of unshare(1).
    """
    words = ["unshare", "--pid", "--fork", "--kill-child", *kinds, "--"]
    words += ["/bin/sh", "-c", f"{script}\necho ready; read line"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as unshare:
        assert unshare.stdout is not None
        try:
            while (line := unshare.stdout.readline()) != "ready\n":
                assert line, "the namespace could not be made"
            init = psutil.Process(unshare.pid).children()[0]
            yield init.pid
            with contextlib.suppress(psutil.NoSuchProcess):
                init.kill()  # first, for its parent reaps it
            unshare.wait(PATIENCE_S)
        finally:
            unshare.kill()


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds; AssertionError when it never does."""
    last = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < last, f"never saw: {what}"
        time.sleep(0.005)


def run(words: Sequence[str]) -> str:
    """Run a program and return what it printed."""
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=PATIENCE_S).stdout
