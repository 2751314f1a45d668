"""Images of connections are as CRIU reads them, and both ends agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.criu import tcpstreams, wire
from crikpy.errors import CriuError
from crikpy.model.network import StreamEnd

MAGIC, INVENTORY = 0x51465506, 0x58313116


def parts(image: bytes, received: bytes) -> dict[int, int]:
    """Return the fields of an image, whose end must be what was received."""
    assert image.endswith(received)
    (message,) = wire.records(image[: len(image) - len(received)], MAGIC)
    found = dict(wire.fields(message))
    assert all(isinstance(value, int) for value in found.values())
    return found  # type: ignore[return-value]


@given(st.binary(max_size=100), st.sampled_from([0, 100, 16383, 16384, 10**6]).map(bytes))
def test_the_ends_of_a_connection_agree(received: bytes, others: bytes) -> None:
    near, far = StreamEnd(inode=0x1A, received=received), StreamEnd(inode=0x2B, received=others)
    one, other = parts(tcpstreams.image_of(near, far), received), parts(tcpstreams.image_of(far, near), others)
    for end, its, bytes_ in ((one, other, received), (other, one, others)):
        assert end[1] == len(bytes_)
        assert end[2] == its[4]  # the next that it awaits is the next that the other sends
        assert (end[3], end[12]) == (0, 0)  # nothing to be sent before the other is there
        assert end[14] == its[16] <= end[15]
        assert end[13] == end[17] == end[2]
        assert (end[5], end[6], end[7]) == (its[5], its[8], its[7])
        assert (end[16] == 0) == (len(bytes_) >= 16384)


def test_names_are_those_that_criu_looks_for() -> None:
    assert tcpstreams.image_name(0x1A2B) == "tcp-stream-1a2b.img"


def test_an_inventory_loses_nothing_but_that_all_connections_were_to_be_closed() -> None:
    fields: list[tuple[int, wire.Value]] = [(1, 2), (2, 1), (9, 1), (10, 1), (11, b"uuid"), (77, 7)]
    message = b"".join(wire.field(number, value) for number, value in fields)
    kept = tcpstreams.keeping_inventory(wire.image_of(INVENTORY, [message], common=False))
    (found,) = wire.records(kept, INVENTORY, common=False)
    assert list(wire.fields(found)) == [field for field in fields if field[0] != 10]


def test_what_is_no_inventory_is_refused() -> None:
    with pytest.raises(CriuError):
        tcpstreams.keeping_inventory(wire.image_of(INVENTORY, []))
