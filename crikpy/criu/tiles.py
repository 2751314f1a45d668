"""Keep a job's permission to use AMX's tile registers across a restore, and refuse to dump tiles in use.

Linux gives these registers to a process that asks (ARCH_REQ_XCOMP_PERM, Documentation/arch/x86/xstate.rst), as
oneDNN does below PyTorch. CRIU 4.2 does not know of it: what it restores dies of SIGILL at its next tile
instruction. A child inherits the permission, so CRIU is started with a library that asks for it
(daemonset/launcher/tiles.c).

That has a price. To a process with the permission the kernel refuses alternate signal stacks that could not hold
the tiles, and a restore loses such stacks without a word. But the kernel never lets a process have both: a thread
with such a stack tells that its process has not asked. So a tree gets the permission only where no thread has one.

CRIU does not save the registers' contents either. A thread that is dumped between LDTILECFG and TILERELEASE would
die of SIGILL as well, so such a dump is refused; libraries that release them are through in milliseconds.

Both are read from the images of the threads' cores as they pass by. Nothing here may hold an image back or change
it, nor touch a process.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crikpy.criu import compat, wire
from crikpy.criu.quieting import TILES
from crikpy.errors import CriuError, TilesInUseError
from crikpy.model.streams import ImageSink, ImageWriter

_CORE: Final = "core-"
_CORE_MAGIC: Final = 0x55053847  # of criu/include/magic.h

_STATE_IN_USE: Final = (2, 3, 13, 1)  # thread_info, fpregs, xsave, xstate_bv
_STACK: Final = (5, 7)  # thread_core, sas
_STACK_SIZE: Final = (2,)
_STACK_FLAGS: Final = (3,)
"""Paths of field numbers (images/core.proto and images/core-x86.proto of CRIU 4.2)."""

_SS_DISABLE: Final = 2
_AT_MINSIGSTKSZ: Final = 51


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """What a thread's core image says about tiles.

    Attributes:
        in_use: its tile registers hold something.
        stack_bytes: size of its alternate signal stack, or None when it has none.
    """

    in_use: bool
    stack_bytes: int | None


def needed_stack_bytes() -> int | None:
    """Return how large an alternate signal stack has to be for tiles, or None when this CPU has no tiles."""
    _, features = compat.cpu_facts(Path("/proc/cpuinfo").read_text(), os.uname().machine)
    if "amx_tile" not in features:
        return None
    vector = struct.iter_unpack("=QQ", Path("/proc/self/auxv").read_bytes())
    return next((value for kind, value in vector if kind == _AT_MINSIGSTKSZ), None)


class CoreWatch:
    """A sink that passes every image on, and looks at those of cores."""

    def __init__(self, sink: ImageSink, stack_bytes: int | None) -> None:
        """Watch what goes to the sink; `stack_bytes` is what needed_stack_bytes() said."""
        self._sink = sink
        self._stack_bytes = stack_bytes
        self._cores: list[Core] = []

    def open(self, name: str) -> ImageWriter:
        """Begin an image (crikpy.model.streams.ImageSink)."""
        writer = self._sink.open(name)
        return _WatchedWriter(name, writer, self._cores) if name.startswith(_CORE) else writer

    def may_have_asked(self) -> bool:
        """Say whether the tree may have the permission; call it when every image has passed."""
        needed = self._stack_bytes
        if needed is None:
            return False
        return all(core.stack_bytes is None or core.stack_bytes >= needed for core in self._cores)


class _WatchedWriter:
    """Writes one core image, a few kilobytes, and keeps its bytes until it is whole."""

    def __init__(self, name: str, writer: ImageWriter, cores: list[Core]) -> None:
        self._name = name
        self._writer = writer
        self._cores = cores
        self._lent = memoryview(b"")
        self._seen = bytearray()

    def buffer(self) -> memoryview:
        self._lent = self._writer.buffer()
        return self._lent

    def advance(self, count: int) -> None:
        self._seen += self._lent[:count]
        self._writer.advance(count)

    def close(self) -> None:
        """Look at the image before it counts as whole.

        Raises:
            TilesInUseError: the thread's tiles hold something.
            CriuError: it is no core image.
        """
        core = read_core(bytes(self._seen))
        if core.in_use:
            thread = self._name.removeprefix(_CORE).removesuffix(".img")
            raise TilesInUseError(
                f"thread {thread} is using AMX's tile registers, which CRIU cannot save",
                remedy="it helps to try again; ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 keeps PyTorch from using them",
            )
        self._cores.append(core)
        self._writer.close()


def read_core(image: bytes) -> Core:
    """Read a core image: two magic numbers, a length, and one protobuf message of that length.

    Raises:
        CriuError: it is something else.
    """
    messages = wire.records(image, _CORE_MAGIC)
    if len(messages) != 1:
        raise CriuError(f"an image of a core cannot be read: it has {len(messages)} messages")
    state, stack = _find(messages[0], _STATE_IN_USE), _find(messages[0], _STACK)
    return Core(in_use=isinstance(state, int) and bool(state & TILES), stack_bytes=_stack_bytes(stack))


def _stack_bytes(stack: wire.Value | None) -> int | None:
    if not isinstance(stack, bytes):
        return None
    size, flags = _find(stack, _STACK_SIZE), _find(stack, _STACK_FLAGS)
    if not isinstance(size, int) or (isinstance(flags, int) and flags & _SS_DISABLE):
        return None
    return size


def _find(message: bytes, path: tuple[int, ...]) -> wire.Value | None:
    """Return the first field on a path of nested messages, or None."""
    found: wire.Value | None = message
    for number in path:
        if not isinstance(found, bytes):
            return None
        found = wire.first(found, number)
    return found
