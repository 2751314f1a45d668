"""Reads the GNU build id of an ELF file, by which CRIU tells whether a program or library is the same.

Source: elf(5). Only the notes are read. Whatever is not as documented has no build id; files of a job may be
anything.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

_PT_NOTE, _NT_GNU_BUILD_ID = 4, 3
_LONGEST = 64 * 1024


def read_build_id(fd: int) -> str:
    """Return the build id in hex, or an empty string when there is none."""
    try:
        return next(_build_ids(fd), "")
    except (struct.error, OSError, OverflowError):  # offsets may point anywhere
        return ""


def _build_ids(fd: int) -> Iterator[str]:
    head = os.pread(fd, 64, 0)
    if len(head) < 64 or head[:4] != b"\x7fELF":
        return
    order = "<" if head[5] == 1 else ">"
    if head[4] == 2:
        (start,) = struct.unpack_from(order + "Q", head, 32)
        size, count = struct.unpack_from(order + "HH", head, 54)
    else:
        (start,) = struct.unpack_from(order + "I", head, 28)
        size, count = struct.unpack_from(order + "HH", head, 42)
    if size * count > _LONGEST:
        return
    table = os.pread(fd, size * count, start)
    for index in range(count):
        entry = table[index * size : (index + 1) * size]
        if struct.unpack_from(order + "I", entry)[0] == _PT_NOTE:
            form = ("Q", 8, 32) if head[4] == 2 else ("I", 4, 16)
            (offset,) = struct.unpack_from(order + form[0], entry, form[1])
            (length,) = struct.unpack_from(order + form[0], entry, form[2])
            yield from _notes(os.pread(fd, min(length, _LONGEST), offset), order)


def _notes(notes: bytes, order: str) -> Iterator[str]:
    while len(notes) >= 12:
        name_size, size, kind = struct.unpack_from(order + "III", notes)
        start = 12 + (name_size + 3) // 4 * 4
        if kind == _NT_GNU_BUILD_ID and notes[12 : 12 + name_size] == b"GNU\0":
            yield notes[start : start + size].hex()
        notes = notes[start + (size + 3) // 4 * 4 :]
