"""Images of TCP connections that both ends of move, as CRIU reads them, and an inventory that lets it.

Dumps are made with --tcp-close, by which CRIU touches no connection; what is needed to keep one is added here
(images/tcp-stream.proto, criu/sk-tcp.c and soccr/soccr.c of CRIU 4.2). The ends that come back need not know the
numbers that their bytes had: they only have to agree. And whatever was on its way to an end lies in its queue from
the beginning, so that none has anything to send before the other is there.
"""

from __future__ import annotations

from typing import Final

from crikpy.criu import wire
from crikpy.model.network import StreamEnd

INVENTORY_IMAGE: Final = "inventory.img"

_MAGIC: Final = 0x51465506
_INVENTORY_MAGIC: Final = 0x58313116
_TCP_CLOSE: Final = 10
"""Field of an inventory_entry: that all connections were to be closed."""

_FIRST: Final = 1 << 16
"""Number of the first byte in either direction."""

_STAMPED, _SELECTIVE, _SCALED = 1, 2, 4
"""Options that both ends agree on (TCPI_OPT_TIMESTAMPS, TCPI_OPT_SACK, TCPI_OPT_WSCALE).

With timestamps a connection can take the place of one between the same ports that has just ended (tcp_tw_reuse):
on a plain machine its own, where a job is resumed on the machine that it was saved on.
"""


_SEGMENT_BYTES: Final = 65495
"""The largest segment, as on a connection through loopback; the kernel takes what its way allows."""

_SCALE: Final = 10
"""Binary exponent of the unit of windows."""

_WINDOW_BYTES: Final = 16384
"""How much an end may be sent before it has said so itself; nothing where as much lies in its queue already.

Little, since the kernel chooses the size of segments anew when it is told of more.
"""


def image_name(inode: int) -> str:
    """Return the name of the image that CRIU looks for."""
    return f"tcp-stream-{inode:x}.img"


def image_of(end: StreamEnd, other: StreamEnd) -> bytes:
    """Return the image of one end of a connection."""
    behind, before = _FIRST + len(end.received), _FIRST + len(other.received)
    entry = {
        1: len(end.received),
        2: behind,
        3: 0,
        4: before,
        5: _STAMPED | _SELECTIVE | _SCALED,
        6: _SCALE,
        7: _SEGMENT_BYTES,
        8: _SCALE,
        9: _FIRST,
        12: 0,
        13: behind,
        14: _window(other),
        15: _window(other),
        16: _window(end),
        17: behind,
    }
    message = b"".join(wire.field(number, value) for number, value in entry.items())
    return wire.image_of(_MAGIC, [message]) + end.received


def _window(end: StreamEnd) -> int:
    return _WINDOW_BYTES if len(end.received) < _WINDOW_BYTES else 0


def keeping_inventory(image: bytes) -> bytes:
    """Return the inventory of a checkpoint whose connections are not all to be closed.

    Raises:
        CriuError: it is no inventory.
    """
    messages = wire.records(image, _INVENTORY_MAGIC, common=False)
    kept = [wire.replaced(message, {_TCP_CLOSE: []}) for message in messages]
    return wire.image_of(_INVENTORY_MAGIC, kept, common=False)
