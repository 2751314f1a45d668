"""A job that uses AMX's tile registers from machine code of its own, a line for each time.

tiles.py brief       releases them at once
tiles.py long        keeps them for most of the time, as a large multiplication does
tiles.py keeping     never releases them
tiles.py small-stack never asks for them, and says how large its alternate signal stack is
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys
import time
from itertools import count

SMALL_STACK_BYTES = 8192
"""What SIGSTKSZ was before CPUs had tiles."""

_ARCH_PRCTL = 158
_ARCH_REQ_XCOMP_PERM = 0x1023
_XTILEDATA = 18

_LDTILECFG = "c4 e2 78 49 07"  # ldtilecfg [rdi]
_TILEZERO = "c4 e2 7b 49 c0"  # tilezero tmm0
_TILERELEASE = "c4 e2 78 49 c0"
_SPIN = "48 ff ce 75 fb"  # dec rsi; jnz back to it
_RET = "c3"
_CODES = {
    "brief": (_LDTILECFG, _TILEZERO, _TILERELEASE, _RET),
    "long": (_LDTILECFG, _TILEZERO, _SPIN, _TILEZERO, _TILERELEASE, _RET),
    "keeping": (_LDTILECFG, _TILEZERO, _RET),
}
_SPINS = 3_000_000

_CONFIGURATION = struct.pack("<BB14x8H16x8B8x", 1, 0, *[64] * 8, *[16] * 8)
"""Palette 1, eight tiles of 16 rows of 64 bytes (Intel SDM, LDTILECFG)."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Stack(ctypes.Structure):
    """A stack_t of sigaltstack(2)."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def use(mode: str) -> None:
    """Ask for the tiles, then use them for ever."""
    if _libc.syscall(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA) != 0:
        sys.exit(f"no tiles: {os.strerror(ctypes.get_errno())}")
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(bytes.fromhex("".join(_CODES[mode])))
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        code = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_long)(address)
        for number in count():
            code(_CONFIGURATION, _SPINS)
            print("step", number, flush=True)
            time.sleep(0 if mode == "long" else 0.02)


def have_small_stack() -> None:
    """Set an alternate stack, then tell its size for ever."""
    room = ctypes.create_string_buffer(SMALL_STACK_BYTES)
    own, now = _Stack(ctypes.addressof(room), 0, SMALL_STACK_BYTES), _Stack()
    if _libc.sigaltstack(ctypes.byref(own), None) != 0:
        sys.exit(f"no stack: {os.strerror(ctypes.get_errno())}")
    for number in count():
        _libc.sigaltstack(None, ctypes.byref(now))
        print("step", number, "stack", now.size, flush=True)
        time.sleep(0.02)


if __name__ == "__main__":
    have_small_stack() if sys.argv[1] == "small-stack" else use(sys.argv[1])
