"""A job of two processes that send each other as much as goes, by several TCP connections, all the time.

    streaming HOST CONNECTIONS

What comes is compared byte for byte; whoever finds a wrong one, or an end, ends the job. A proof is that more has
come by every connection since the last one.
"""

from __future__ import annotations

import mmap
import os
import random
import socket
import struct
import sys
import threading
import time

from tests.jobs import addresses, proving
from tests.jobs.conversing import listening

_PATIENCE_S = 20
_PERIOD = 65521
_PATTERN = random.Random(1).randbytes(_PERIOD) * 3
_COUNT = struct.Struct("=Q")


def pour(end: socket.socket) -> None:
    """Send without an end, in parts of any length."""
    chance, sent = random.Random(), 0
    while True:
        count = chance.randint(1, _PERIOD)
        end.sendall(_PATTERN[sent % _PERIOD : sent % _PERIOD + count])
        sent += count


def drink(end: socket.socket, counts: mmap.mmap, place: int) -> None:
    """Read and compare without an end, and say how far it is."""
    got = 0
    while data := end.recv(_PERIOD):
        if data != _PATTERN[got % _PERIOD : got % _PERIOD + len(data)]:
            break
        got += len(data)
        _COUNT.pack_into(counts, place * _COUNT.size, got)
    print(f"connection {place} ended or went wrong after {got} bytes", file=sys.stderr, flush=True)
    os._exit(1)


def talk(ends: list[socket.socket], counts: mmap.mmap, first: int) -> None:
    """Pour and drink by all these ends."""
    for number, end in enumerate(ends):
        threading.Thread(target=pour, args=(end,), daemon=True).start()
        threading.Thread(target=drink, args=(end, counts, first + number), daemon=True).start()


def main() -> None:
    """Connect both processes, have them talk, and prove that they do."""
    proving.block()
    host, number = sys.argv[1], int(sys.argv[2])
    counts = mmap.mmap(-1, 2 * number * _COUNT.size)
    listener = listening(addresses.own(socket.AF_INET) if host == "own" else host)
    if os.fork() == 0:
        ends = [socket.create_connection(listener.getsockname()[:2]) for _ in range(number)]
        talk(ends, counts, number)
        threading.Event().wait()
    talk([listener.accept()[0] for _ in range(number)], counts, 0)

    def prove(_count: int) -> None:
        before = [_COUNT.unpack_from(counts, place * _COUNT.size)[0] for place in range(2 * number)]
        last = time.monotonic() + _PATIENCE_S
        for place, then in enumerate(before):
            while _COUNT.unpack_from(counts, place * _COUNT.size)[0] <= then:
                if time.monotonic() > last:
                    raise AssertionError(f"nothing comes by connection {place} after {then} bytes")
                time.sleep(0.01)

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
