"""System calls that Python does not have.

Sources: statx(2), statfs(2), setns(2), semctl(2); openat2(2) and pidfd_getfd(2), both of Linux 5.6, with one
number on every architecture. Nothing here says what may be opened.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass
from typing import Final

_OPENAT2: Final = 437
_PIDFD_GETFD: Final = 438
_NEW_IPC: Final = 0x08000000
_GETPID: Final = 11

_NO_XDEV: Final = 0x01
_NO_MAGICLINKS: Final = 0x02
_NO_SYMLINKS: Final = 0x04
_BENEATH: Final = 0x08
_IN_ROOT: Final = 0x10

_CLONE_NEWNET: Final = 0x40000000

_AT_FDCWD: Final = -100
_DONT_SYNC: Final = 0x4000
_BASIC_STATS: Final = 0x7FF

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the kernel knows of a file.

    Attributes:
        mode: form and permissions, as stat has them.
        links: number of its names.
        device: major and minor number of its filesystem.
        inode: its number there.
        size: its bytes.
        occupied: the bytes that it takes up: fewer where it has holes.
        node: major and minor number, of a device node.
    """

    mode: int
    links: int
    device: tuple[int, int]
    inode: int
    size: int
    occupied: int
    node: tuple[int, int]


def look(path: str) -> Seen:
    """Return what the kernel knows already of what a path leads to: a filesystem's server is not asked.

    Raises:
        OSError: there is nothing.
    """
    room = ctypes.create_string_buffer(256)
    name = ctypes.c_char_p(os.fsencode(path))
    arguments = (name, ctypes.c_int(_DONT_SYNC), ctypes.c_uint(_BASIC_STATS), room)
    if _libc.statx(ctypes.c_int(_AT_FDCWD), *arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    links, _, _, mode, inode, size, blocks = struct.unpack_from("=IIIH2xQQQ", room, 16)
    node_major, node_minor, major, minor = struct.unpack_from("=IIII", room, 128)
    return Seen(
        mode=mode,
        links=links,
        device=(major, minor),
        inode=inode,
        size=size,
        occupied=blocks * 512,
        node=(node_major, node_minor),
    )


def filesystem(path: str) -> int:
    """Return the magic number of the filesystem that a path leads to; its server may be asked.

    Raises:
        OSError: there is nothing.
    """
    room = ctypes.create_string_buffer(256)
    if _libc.statfs(ctypes.c_char_p(os.fsencode(path)), room) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return int(struct.unpack_from("=q", room)[0])


def enter_ipc_namespace(space: int) -> None:
    """Have the calling thread, and no other, be in another IPC namespace.

    Args:
        space: a descriptor of it.

    Raises:
        OSError: it must not.
    """
    if _libc.setns(ctypes.c_int(space), ctypes.c_int(_NEW_IPC)) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def semaphore_users(semaphores: int, count: int) -> frozenset[int]:
    """Return who used the semaphores of a set last, of those who live, by their PIDs here.

    Args:
        semaphores: id of the set, in the IPC namespace of the calling thread.
        count: how many there are.

    Raises:
        OSError: there is no such set.
    """
    found = [int(_libc.semctl(ctypes.c_int(semaphores), number, _GETPID)) for number in range(count)]
    if -1 in found:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return frozenset(found) - {0}


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


def enter_network(namespace: int) -> None:
    """Have the calling thread, and no other, use another network namespace from now on (setns(2)).

    Raises:
        OSError: it may not, or the descriptor is of something else.
    """
    if _libc.setns(ctypes.c_int(namespace), ctypes.c_int(_CLONE_NEWNET)) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


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
