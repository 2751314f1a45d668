"""Fields of CRIU's images are read and replaced; all others stay as they are, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.criu import wire
from crikpy.errors import CriuError

NUMBERS = st.integers(1, 2**20)
VALUES = st.integers(0, 2**64 - 1) | st.binary(max_size=300)
FIELDS = st.lists(st.tuples(NUMBERS, VALUES), max_size=20)
MAGIC = 0x12345678


def message(fields: list[tuple[int, wire.Value]]) -> bytes:
    return b"".join(wire.field(number, value) for number, value in fields)


@given(FIELDS)
def test_what_is_written_is_read(fields: list[tuple[int, wire.Value]]) -> None:
    assert list(wire.fields(message(fields))) == fields


@given(FIELDS, NUMBERS, st.lists(VALUES, max_size=3))
def test_a_field_is_replaced_and_the_others_are_kept(
    fields: list[tuple[int, wire.Value]], number: int, values: list[wire.Value]
) -> None:
    found = list(wire.fields(wire.replaced(message(fields), {number: values})))
    kept = [field for field in fields if field[0] != number]
    assert found == [*kept, *((number, value) for value in values)]


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_an_image_is_its_messages(messages: list[bytes]) -> None:
    assert wire.records(wire.image_of(MAGIC, messages), MAGIC) == messages


def test_fields_of_fixed_length_are_passed_over_and_kept() -> None:
    fixed = b"\x0d\x01\x02\x03\x04" + b"\x11" + bytes(8)
    assert list(wire.fields(fixed + wire.field(3, 5))) == [(1, b"\x01\x02\x03\x04"), (2, bytes(8)), (3, 5)]
    assert wire.replaced(fixed + wire.field(3, 5), {3: []}) == fixed


@pytest.mark.parametrize("packed", [True, False])
def test_repeated_numbers_are_read_packed_or_not(packed: bool) -> None:
    values = (1, 300, 2**32 - 1)
    one_by_one = [wire.field(7, value) for value in values]
    together = wire.field(7, b"".join(part[1:] for part in one_by_one))
    assert wire.numbers(together if packed else b"".join(one_by_one), 7) == values


@given(st.binary(max_size=200))
def test_any_bytes_are_understood_or_refused(data: bytes) -> None:
    try:
        found = list(wire.fields(data))
    except CriuError:
        return
    assert list(wire.fields(wire.replaced(data, {}))) == found


@pytest.mark.parametrize(
    "data",
    [b"", bytes(8), wire.image_of(MAGIC, [b"ab"])[:-1], wire.image_of(MAGIC, []) + b"\1\0", b"\x19\x43\x56\x54"],
    ids=["empty", "other magic", "cut message", "cut length", "cut head"],
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(CriuError):
        wire.records(data, MAGIC)
