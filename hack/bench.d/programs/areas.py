"""Maps so many pages which the kernel cannot merge, writes a number into each, and looks at them all the time."""

import mmap
import sys
import time
from pathlib import Path

count = int(sys.argv[1])
private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
plain = mmap.PROT_READ | mmap.PROT_WRITE
rights = (plain, plain | mmap.PROT_EXEC)
pages = [mmap.mmap(-1, mmap.PAGESIZE, flags=private, prot=rights[number % 2]) for number in range(count)]
for number, page in enumerate(pages):
    page[:8] = number.to_bytes(8, "little")
for turn in range(1, 11):
    total = sum(int.from_bytes(page[:8], "little") for page in pages)
    with Path("/proc/self/maps").open() as areas:
        print(turn, total, sum(1 for _ in areas) >= count, flush=True)
    time.sleep(0.3)
