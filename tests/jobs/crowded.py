"""A job that has very many of what most have few of: threads, open files and pieces of mapped memory.

Arguments: how many threads, descriptors and mappings.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import sys
import tempfile
import threading

from tests.jobs import proving

_PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)


class Threads:
    """Threads that count when they are let."""

    def __init__(self, size: int) -> None:
        self._counted = [0] * size
        self._turn, self._done = threading.Barrier(size + 1), threading.Barrier(size + 1)
        threading.stack_size(65536)
        for number in range(size):
            threading.Thread(target=self._count, args=(number,), daemon=True).start()

    def prove(self, count: int) -> None:
        """Fail unless all of them count."""
        self._turn.wait()
        self._done.wait()
        proving.check_equal({*self._counted}, {count}, "what the threads have counted")

    def _count(self, number: int) -> None:
        while True:
            self._turn.wait()
            self._counted[number] += 1
            self._done.wait()


class Files:
    """Descriptors of one file, each where it was left, and every other page of it, each mapped by itself."""

    def __init__(self, descriptors: int, mappings: int) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors + 100, descriptors + 100))
        file, self._path = tempfile.mkstemp()
        os.ftruncate(file, 2 * _PAGE * max(mappings, descriptors))
        self._descriptors = [os.open(self._path, os.O_RDWR) for _ in range(descriptors)]
        for number, descriptor in enumerate(self._descriptors):
            os.lseek(descriptor, number, os.SEEK_SET)
        self._room = _libc.mmap(None, _PAGE * mappings, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        self._mapped = [self._map(file, number) for number in range(mappings)]
        self._write(0)

    def prove(self, count: int) -> None:
        """Fail unless all are as they were left."""
        places = [os.lseek(descriptor, 0, os.SEEK_CUR) for descriptor in self._descriptors]
        proving.check_equal(places, list(range(len(places))), "where the files are read from")
        written = {(count - 1 + number) % 256 == byte.value[0] for number, byte in enumerate(self._mapped)}
        proving.check_equal(written <= {True}, True, "what is in memory")
        self._write(count)

    def _map(self, file: int, number: int) -> ctypes.c_char:
        at = _libc.mmap(self._room + _PAGE * number, _PAGE, 3, mmap.MAP_SHARED | 0x10, file, 2 * _PAGE * number)
        proving.check_equal(at, self._room + _PAGE * number, "where it is mapped")
        return ctypes.c_char.from_address(at)

    def _write(self, count: int) -> None:
        for number, byte in enumerate(self._mapped):
            byte.value = bytes([(count + number) % 256])


def main() -> None:
    """Have them."""
    proving.block()
    threads, descriptors, mappings = map(int, sys.argv[1:])
    crowd, files = Threads(threads), Files(descriptors, mappings)

    def prove(count: int) -> None:
        crowd.prove(count)
        files.prove(count)

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
