"""A pod beside the one that is saved: `neighbour.py KIND FILE` does one thing over and over and notes when.

It needs the standard library alone. Kinds: `cores` computes on every core, `memory` copies memory.
"""

import os
import sys
import time
from pathlib import Path


def main() -> None:
    kind, notes = sys.argv[1], Path(sys.argv[2])
    workers = os.cpu_count() or 1
    for _ in range(workers - 1):
        if os.fork() == 0:
            break
    block = bytearray(16 << 20)
    with notes.open("a", buffering=1) as out:
        while True:
            if kind == "cores":
                sum(number * number for number in range(100_000))
            else:
                bytes(block)
            out.write(f"{time.monotonic()}\n")


main()
