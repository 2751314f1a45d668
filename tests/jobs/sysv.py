"""A job that keeps what it knows in System V objects: shared memory, semaphores and a queue of messages.

Two processes share them. One piece of memory is marked to be removed, one is attached by nobody.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from tests.jobs import proving

_KEY = 0x6372
_CREATE, _EXCLUSIVE, _NOWAIT = 0o1000, 0o2000, 0o4000
_RMID, _GETVAL, _SETVAL = 0, 12, 16
_BYTES = 3 * 4096

_libc = ctypes.CDLL(None, use_errno=True)
_libc.shmat.restype = ctypes.c_void_p
_libc.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


def _must(value: int) -> int:
    if value < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return value


def _memory(key: int) -> int:
    return _must(_libc.shmget(key, _BYTES, _CREATE | 0o600))


def _attach(segment: int) -> ctypes.Array[ctypes.c_char]:
    at = _libc.shmat(segment, None, 0)
    if at == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return (ctypes.c_char * _BYTES).from_address(at)


def _operate(semaphores: int, number: int, change: int) -> None:
    while _libc.semop(semaphores, struct.pack("Hhh", number, change, 0), 1):
        proving.check_equal(
            ctypes.get_errno(), errno.EINTR, "why a semaphore's operation fails"
        )  # as any stop does


def _send(queue: int, kind: int, text: bytes) -> None:
    _must(_libc.msgsnd(queue, struct.pack("l", kind) + text, len(text), _NOWAIT))


def _receive(queue: int, kind: int) -> bytes:
    room = ctypes.create_string_buffer(8 + 100)
    length = _must(_libc.msgrcv(queue, room, 100, ctypes.c_long(kind), _NOWAIT))
    return room.raw[8 : 8 + length]


def main() -> None:
    """Share them with a child, which adds one to the memory's number each time that it may."""
    proving.block()
    keyed, private, alone = _memory(_KEY), _memory(0), _memory(_KEY + 1)
    shared, doomed, lonely = _attach(keyed), _attach(private), _attach(alone)
    _must(_libc.shmctl(private, _RMID, None))
    lonely.value = b"nobody looks"
    _must(_libc.shmdt(ctypes.byref(lonely)))
    doomed.value = b"to be removed"
    semaphores = _must(_libc.semget(_KEY, 3, _CREATE | 0o600))
    _must(_libc.semctl(semaphores, 2, _SETVAL, 42))
    queue = _must(_libc.msgget(_KEY, _CREATE | 0o600))
    for kind in (1, 2):
        _send(queue, kind, b"kept %d" % kind)
    child = os.fork()
    if child == 0:
        while True:
            _operate(semaphores, 0, -1)
            shared[0] = bytes([shared[0][0] + 1])
            _operate(semaphores, 1, 1)

    def prove(count: int) -> None:
        _operate(semaphores, 0, 1)
        _operate(semaphores, 1, -1)
        again = _attach(alone)
        proving.check_all(
            [
                (shared[0], bytes([count]), "the number in memory that both have"),
                (doomed.value, b"to be removed", "memory that is to be removed"),
                (again.value, b"nobody looks", "memory that nobody has attached"),
                (_memory(_KEY), keyed, "the memory's name"),
                (_libc.semget(_KEY, 3, 0), semaphores, "the semaphores' name"),
                (_libc.semctl(semaphores, 2, _GETVAL), 42, "a semaphore's value"),
                (_libc.msgget(_KEY, 0), queue, "the queue's name"),
                (_receive(queue, 2), b"kept 2", "the second message"),
            ]
        )
        _send(queue, 2, b"kept 2")
        _must(_libc.shmdt(ctypes.byref(again)))

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
