"""A filesystem whose server falls silent: FUSE without a library, of one file that is read and written by nobody.

Run as a program with a mount point it mounts itself there, says so, and answers until its standard input ends.
From then on it stays silent, and with it whoever asks it anything, until it is killed.
Source: include/uapi/linux/fuse.h, protocol 7.31.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, GETXATTR, FLUSH, INIT, OPENDIR, BATCH_FORGET = (
    1, 2, 3, 14, 15, 17, 18, 22, 25, 26, 27, 42,
)  # fmt: skip
_SIZE = 8192
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def mounted(point: Path) -> Iterator[Callable[[], None]]:
    """Mount one with a file `f`, and lend what makes it fall silent."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__)), str(point)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == b"mounted\n"

        def fall_silent() -> None:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.close()
            assert server.stdout.readline() == b"silent\n"

        try:
            yield fall_silent
        finally:
            server.kill()
            server.wait()
            _libc.umount2(os.fsencode(point), 2)


def _attributes(node: int) -> bytes:
    mode, size = (0o100777, _SIZE) if node == 2 else (0o040777, 0)
    return struct.pack("=QQQQQQIIIIIIIIII", node, size, 16, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def _answer(kind: int, node: int, body: bytes) -> bytes | int | None:
    """Return the answer's body, an error's number, or None where none is due."""
    match kind:
        case k if k in {FORGET, BATCH_FORGET}:
            return None
        case k if k == INIT:
            return struct.pack("=IIIIHHIIHHI", 7, 31, 65536, 0, 8, 8, 65536, 1, 1, 0, 0) + bytes(24)
        case k if k == LOOKUP:
            return struct.pack("=QQQQII", 2, 0, 0, 0, 0, 0) + _attributes(2) if body == b"f\0" else errno.ENOENT
        case k if k == GETATTR:
            return struct.pack("=QII", 0, 0, 0) + _attributes(node)
        case k if k in {OPEN, OPENDIR}:
            return struct.pack("=QII", 1, 0, 0)
        case k if k == READ:
            return bytes(4096)
        case k if k in {RELEASE, FLUSH}:
            return b""
    return errno.ENOSYS


def _serve(point: str) -> None:
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    if _libc.mount(b"silent", os.fsencode(point), b"fuse.silent", 0, options.encode()):
        raise OSError(ctypes.get_errno(), "mount")
    print("mounted", flush=True)
    while device in (ready := select.select([device, 0], [], [])[0]) and 0 not in ready:
        request = os.read(device, 1 << 20)
        _, kind, unique, node = struct.unpack_from("=IIQQ", request)
        found = _answer(kind, node, request[40:])
        if found is not None:
            body, error = (b"", -found) if isinstance(found, int) else (found, 0)
            os.write(device, struct.pack("=IiQ", 16 + len(body), error, unique) + body)
    print("silent", flush=True)
    select.select([], [], [])


if __name__ == "__main__":
    _serve(sys.argv[1])
