"""System calls that Python does not have: to resolve a whole path within a directory, and to share a descriptor.

Sources: openat2(2) and pidfd_getfd(2), both of Linux 5.6, with one number on every architecture. Nothing here says
what may be opened.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

_OPENAT2: Final = 437
_PIDFD_GETFD: Final = 438

_NO_XDEV: Final = 0x01
_NO_MAGICLINKS: Final = 0x02
_NO_SYMLINKS: Final = 0x04
_BENEATH: Final = 0x08
_IN_ROOT: Final = 0x10

_TRIES: Final = 64
"""The kernel gives up on a path with `..` in it when anything anywhere is renamed meanwhile."""

_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_in_root(root: int, path: str) -> int:
    """Return a descriptor that names a file (O_PATH) as it is called by processes whose root this directory is.

    Symbolic links and `..` never lead out of it; the links of /proc to what processes have open are not followed.

    Raises:
        OSError: there is no such file.
    """
    return _open(root, path, os.O_PATH, _IN_ROOT | _NO_MAGICLINKS)


def open_directory(parent: int, name: str) -> int:
    """Return a descriptor of a directory below another, on the same mount and reached through no link.

    Raises:
        OSError: there is none; EXDEV where another mount begins on the way.
    """
    resolve = _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS | _NO_XDEV
    return _open(parent, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, resolve)


def getfd(process: int, number: int) -> int:
    """Return a descriptor of ours for what another process has open under a number, with the rights that it has.

    Args:
        process: a pidfd.
        number: of the descriptor there.

    Raises:
        OSError: there is none.
    """
    found = int(
        _libc.syscall(ctypes.c_long(_PIDFD_GETFD), ctypes.c_int(process), ctypes.c_int(number), ctypes.c_uint(0))
    )
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found


def _open(parent: int, path: str, flags: int, resolve: int) -> int:
    name = os.fsencode(path)
    if b"\0" in name:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    how = _How(flags=flags | os.O_CLOEXEC, mode=0, resolve=resolve)
    arguments = (
        ctypes.c_int(parent),
        ctypes.c_char_p(name),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    for _ in range(_TRIES):
        found = int(_libc.syscall(ctypes.c_long(_OPENAT2), *arguments))
        if found >= 0:
            return found
        if (code := ctypes.get_errno()) != errno.EAGAIN:
            break
    raise OSError(code, os.strerror(code), path)
