"""A job that writes numbered lines to both streams, as fast as they are taken, until it is told to finish."""

from __future__ import annotations

import signal
import sys
import threading
from itertools import count
from typing import TextIO

from tests.jobs import proving


def write(stream: TextIO, finished: threading.Event) -> None:
    """Write numbers from 0 on, one a line, each with a write of its own, then a last word."""
    for number in count():
        stream.write(f"{number}\n")
        stream.flush()
        if finished.is_set():
            break
    stream.write("end\n")
    stream.flush()


def main() -> None:
    """Write to both streams at once."""
    proving.block()
    finished = threading.Event()
    writers = [threading.Thread(target=write, args=(stream, finished)) for stream in (sys.stdout, sys.stderr)]
    for writer in writers:
        writer.start()
    signal.sigwait({proving.FINISH})
    finished.set()
    for writer in writers:
        writer.join()


if __name__ == "__main__":
    main()
