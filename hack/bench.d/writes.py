"""How the kernel can tell or keep what a process writes: `writes.py WAY MIB PAGES SHARE`, measured on itself.

The process is the job and what saves it at once, so these are bounds: it stands still for the one call that arms
the way, and who writes pays for each page that it writes first. Prints JSON. It needs the standard library alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import json
import mmap
import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

FORK, TRAPPED, TRACKED, SOFT_DIRTY = "fork", "trapped", "tracked", "soft-dirty"
"""A copy of the process; each first write waits for somebody's leave; the kernel notes first writes, by
userfaultfd or by soft-dirty bits."""

SMALL, HUGE = "small", "huge"
_PAGE = mmap.PAGESIZE
_HUGE_PAGE = 2 * 1024 * 1024

# include/uapi/linux/userfaultfd.h and fs.h; x86-64 numbers the system call 323.
_USERFAULTFD = 323
_UFFD_API = 0xAA
_UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_WRITEPROTECT = 0xC018AA3F, 0xC020AA00, 0xC018AA06
_FEATURE_FAULT_WP, _FEATURE_WP_UNPOPULATED, _FEATURE_WP_ASYNC = 1 << 0, 1 << 13, 1 << 15
_REGISTER_WP = 1 << 1
_PROTECT, _ALLOW = 1, 0
_MESSAGE_BYTES, _ADDRESS_AT = 32, 16
_PAGEMAP_SCAN = 0xC0606610
_SCAN_PROTECTS, _SCAN_ONLY_TRACKED = 1 << 0, 1 << 1
_IS_WRITTEN, _IS_SOFT_DIRTY = 1 << 1, 1 << 7
_REGIONS = 65536

_libc = ctypes.CDLL(None, use_errno=True)


class Memory:
    """Anonymous memory, all of it present.

    Attributes:
        start: its address, at the start of a huge page.
        length: in bytes.
    """

    def __init__(self, mib: int, pages: str) -> None:
        self.length = mib * 1024 * 1024
        whole = mmap.mmap(-1, self.length + _HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        whole.madvise(mmap.MADV_HUGEPAGE if pages == HUGE else mmap.MADV_NOHUGEPAGE)
        first = ctypes.addressof(ctypes.c_char.from_buffer(whole))
        skipped = -first % _HUGE_PAGE
        self.start = first + skipped
        self._view = memoryview(whole)[skipped : skipped + self.length]
        self.write(1)

    def write(self, share: float) -> tuple[int, float]:
        """Write one byte to every n-th page, a share of them; return how many, and the seconds."""
        view = self._view[:: _PAGE * round(1 / share)]
        fresh = bytes(len(view))
        began = time.monotonic()
        view[:] = fresh
        return len(view), time.monotonic() - began


class Protection:
    """Write-protection of memory by userfaultfd (userfaultfd(2), ioctl_userfaultfd(2))."""

    def __init__(self, features: int) -> None:
        self.descriptor = _libc.syscall(_USERFAULTFD, os.O_CLOEXEC)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "userfaultfd")
        fcntl.ioctl(self.descriptor, _UFFDIO_API, bytearray(struct.pack("=3Q", _UFFD_API, features, 0)))

    def register(self, memory: Memory) -> None:
        """Make it this memory's."""
        words = struct.pack("=4Q", memory.start, memory.length, _REGISTER_WP, 0)
        fcntl.ioctl(self.descriptor, _UFFDIO_REGISTER, bytearray(words))

    def set(self, start: int, length: int, mode: int) -> None:
        """Protect pages, or allow writes and wake who waits for it."""
        fcntl.ioctl(self.descriptor, _UFFDIO_WRITEPROTECT, bytearray(struct.pack("=3Q", start, length, mode)))

    def answer(self) -> None:
        """Allow every page that somebody wants to write, for ever."""
        while True:
            message = os.read(self.descriptor, _MESSAGE_BYTES)
            (address,) = struct.unpack_from("=Q", message, _ADDRESS_AT)
            self.set(address & -_PAGE, _PAGE, _ALLOW)


def scan(memory: Memory, category: int, flags: int = 0) -> tuple[int, float]:
    """Find the pages of a category (PAGEMAP_SCAN, Linux 6.7); return how many, and the seconds.

    Source: Documentation/admin-guide/mm/pagemap.rst of Linux.
    """
    regions = (ctypes.c_uint64 * (3 * _REGIONS))()
    end = memory.start + memory.length
    at, found, seconds = memory.start, 0, 0.0
    pagemap = os.open("/proc/self/pagemap", os.O_RDONLY)
    try:
        while at < end:
            asked = struct.pack(
                "=12Q",
                *(96, flags, at, end, 0, ctypes.addressof(regions), _REGIONS, 0),
                *(0, category, 0, category),
            )
            words = bytearray(asked)
            began = time.monotonic()
            count = fcntl.ioctl(pagemap, _PAGEMAP_SCAN, words)
            seconds += time.monotonic() - began
            found += sum(regions[n * 3 + 1] - regions[n * 3] for n in range(count)) // _PAGE
            (at,) = struct.unpack_from("=Q", words, 32)
    finally:
        os.close(pagemap)
    return found, seconds


@contextlib.contextmanager
def _child(work: Callable[[], object]) -> Iterator[float]:
    """Fork a process that works and is killed at the end; lend the seconds that the call took."""
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    took = time.monotonic() - began
    try:
        yield took
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def measure(way: str, mib: int, pages: str, share: float) -> dict[str, float]:
    """Return `still_s`, `extra_us` for each first write to a page, and `look_s` where the kernel knows of them."""
    if way == TRAPPED:
        guard = Protection(_FEATURE_FAULT_WP)
        with _child(guard.answer):  # before there is memory that a fork would share
            memory = Memory(mib, pages)
            guard.register(memory)
            plain = memory.write(share)
            still = _timed(lambda: guard.set(memory.start, memory.length, _PROTECT))
            return _result(still, plain, memory.write(share))
    memory = Memory(mib, pages)
    plain = memory.write(share)
    if way == FORK:
        with _child(signal.pause) as still:
            return _result(still, plain, memory.write(share))
    if way == SOFT_DIRTY:
        still = _timed(lambda: Path("/proc/self/clear_refs").write_text("4"))
        slow = memory.write(share)
        return _result(still, plain, slow, scan(memory, _IS_SOFT_DIRTY))
    tracker = Protection(_FEATURE_FAULT_WP | _FEATURE_WP_UNPOPULATED | _FEATURE_WP_ASYNC)
    tracker.register(memory)
    still = _timed(lambda: tracker.set(memory.start, memory.length, _PROTECT))
    slow = memory.write(share)
    return _result(still, plain, slow, scan(memory, _IS_WRITTEN, _SCAN_PROTECTS | _SCAN_ONLY_TRACKED))


def _result(
    still_s: float, plain: tuple[int, float], slow: tuple[int, float], looked: tuple[int, float] | None = None
) -> dict[str, float]:
    count, slow_s = slow
    found = {"still_s": still_s, "extra_us": (slow_s - plain[1]) / count * 1e6}
    if looked is None:
        return found
    if looked[0] < count:
        raise RuntimeError(f"{count} pages were written but {looked[0]} found")
    return {**found, "look_s": looked[1]}


def _timed(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def main() -> None:
    """Measure once."""
    way, mib, pages, share = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
    gc.disable()
    print(json.dumps(measure(way, mib, pages, share)))


if __name__ == "__main__":
    main()
