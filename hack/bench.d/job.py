"""What a benchmark saves: `job.py KIND MIB FOLDER` fills its memory, then takes a step every 10 ms.

It needs the standard library alone, and holds no file open: a restore may find its folder elsewhere.
"""

import json
import mmap
import os
import random
import sys
import time
from pathlib import Path

_PAGE = 4096
_MIB = 1024 * 1024
_UNIQUE = 1400  # bytes of each page that do not shrink, in compressible memory


def _content(kind: str, count: int) -> bytes:
    """Return so many bytes, a multiple of the page, of one kind."""
    if kind == "random":
        return os.urandom(count)
    rest = (b"weights gradients momenta " * _PAGE)[: _PAGE - _UNIQUE]
    unique = os.urandom(count // _PAGE * _UNIQUE)
    return b"".join(unique[at : at + _UNIQUE] + rest for at in range(0, len(unique), _UNIQUE))


def _dirty(memory: mmap.mmap, kind: str, share: float, *, scattered: bool) -> None:
    pages = len(memory) // _PAGE
    count = int(pages * share)
    fresh = _content(kind, count * _PAGE)
    if scattered:
        chosen = sorted(random.sample(range(pages), count))
    else:
        start = random.randrange(pages - count + 1)
        chosen = list(range(start, start + count))
    for number, page in enumerate(chosen):
        memory[page * _PAGE : (page + 1) * _PAGE] = fresh[number * _PAGE : (number + 1) * _PAGE]


def main() -> None:
    kind, mib, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    memory = mmap.mmap(-1, mib * _MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, mib, 16):
        part = min(16, mib - at) * _MIB
        memory[at * _MIB : at * _MIB + part] = _content(kind, part)
    (folder / "beats").touch()
    (folder / "ready").touch()
    order, touch = folder / "dirty", folder / "touch"
    while True:
        with (folder / "beats").open("a") as beats:
            beats.write(f"{time.monotonic()}\n")
        if order.exists():
            asked = json.loads(order.read_text())
            _dirty(memory, kind, asked["share"], scattered=asked["scattered"])
            order.unlink()
        if touch.exists():
            _ = memory[::_PAGE]
            touch.unlink()
        time.sleep(0.01)


main()
