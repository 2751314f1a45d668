"""The bytes of a chunk: they come back, nothing else is accepted, and they stay what they are across releases."""

from __future__ import annotations

import os
import struct

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from crikpy.errors import FormatVersionError, IntegrityError
from crikpy.store.chunks import (
    CHUNK_BYTES,
    MOST_STORED_BYTES,
    PAGE_BYTES,
    ChunkDecoder,
    ChunkEncoder,
    ChunkMemory,
    Pages,
    chunk_name,
    zero_bytes,
)
from crikpy.store.pages import page_digests
from crikpy.store.pages import zero_pages as zero_of

_GOLDEN_PLAIN = bytes(PAGE_BYTES) + bytes.fromhex("00112233445566778899aabbccddeeff")
_GOLDEN_NAME = "aaa2ee3bae059903ba99483372b728816d07904d65c7f11f1098639dfaa053da"
_GOLDEN_RAW = bytes.fromhex("434b43310001000010100000100000000100112233445566778899aabbccddeeff")


def encode(plain: bytes, level: int = -1) -> bytes:
    memory = ChunkMemory()
    memory.plain[: len(plain)] = plain
    return bytes(ChunkEncoder(level).encode(memory, len(plain), zero_pages(plain))[0])


def zero_pages(plain: bytes) -> Pages:
    return zero_of(page_digests(plain), len(plain))


def decode(name: str, stored: bytes) -> bytes:
    return bytes(ChunkDecoder().decode(name, stored))


pages = st.one_of(
    st.just(bytes(PAGE_BYTES)),
    st.binary(min_size=1, max_size=64).map(lambda seed: (seed * PAGE_BYTES)[:PAGE_BYTES]),
    st.integers(0, PAGE_BYTES - 1).map(lambda at: bytes(at) + b"\1" + bytes(PAGE_BYTES - at - 1)),
    st.randoms(use_true_random=False).map(lambda random: random.randbytes(PAGE_BYTES)),
)
plains = st.tuples(st.lists(pages, max_size=12).map(b"".join), st.binary(max_size=PAGE_BYTES - 1)).map(b"".join)
kept_plains = plains.filter(any)


@given(kept_plains, st.sampled_from([-5, -1, 1, 3]))
@settings(deadline=None)
def test_what_was_stored_comes_back(plain: bytes, level: int) -> None:
    assert decode(chunk_name(plain), encode(plain, level)) == plain


@given(plains)
def test_zero_pages_are_those_without_any_set_bit(plain: bytes) -> None:
    parts = [plain[at : at + PAGE_BYTES] for at in range(0, len(plain), PAGE_BYTES)]
    assert zero_pages(plain).tolist() == [not any(part) for part in parts]
    assert zero_bytes(zero_pages(plain), len(plain)) == sum(len(part) for part in parts if not any(part))


@given(kept_plains, st.data())
@settings(deadline=None)
def test_a_flipped_bit_is_found_or_changes_nothing(plain: bytes, data: st.DataObject) -> None:
    stored = bytearray(encode(plain))
    bit = data.draw(st.integers(0, len(stored) * 8 - 1))
    stored[bit // 8] ^= 1 << bit % 8
    try:
        result = decode(chunk_name(plain), bytes(stored))
    except (IntegrityError, FormatVersionError):
        return
    assert result == plain


@given(kept_plains, st.data())
@settings(deadline=None)
def test_a_chunk_cut_short_is_refused(plain: bytes, data: st.DataObject) -> None:
    stored = encode(plain)
    with pytest.raises(IntegrityError):
        decode(chunk_name(plain), stored[: data.draw(st.integers(0, len(stored) - 1))])


@given(kept_plains, st.binary(min_size=1, max_size=20))
@settings(deadline=None)
def test_bytes_behind_a_chunk_never_become_part_of_it(plain: bytes, more: bytes) -> None:
    try:
        result = decode(chunk_name(plain), encode(plain) + more)
    except IntegrityError:
        return
    assert result == plain


@given(st.binary(max_size=200))
def test_bytes_that_were_never_a_chunk_are_refused(garbage: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode("0" * 64, garbage)


def test_whole_chunks_of_every_kind_come_back() -> None:
    half = bytearray(os.urandom(CHUNK_BYTES))
    for at in range(0, CHUNK_BYTES, 2 * PAGE_BYTES):
        half[at : at + PAGE_BYTES] = bytes(PAGE_BYTES)
    text = b"the same words again and again, " * (CHUNK_BYTES // 32)
    for plain in (os.urandom(CHUNK_BYTES), bytes(half), text, bytes(CHUNK_BYTES - 1) + b"\1"):
        stored = encode(plain)
        assert len(stored) <= MOST_STORED_BYTES
        assert decode(chunk_name(plain), stored) == plain


def test_random_bytes_are_stored_as_they_are_and_words_are_compressed() -> None:
    random, text = os.urandom(CHUNK_BYTES), b"the same words again and again, " * (CHUNK_BYTES // 32)
    assert len(encode(random)) == CHUNK_BYTES + 16
    assert len(encode(text)) < CHUNK_BYTES // 100


def test_zero_pages_take_no_room() -> None:
    plain = os.urandom(PAGE_BYTES) + bytes(100 * PAGE_BYTES) + os.urandom(PAGE_BYTES)
    assert len(encode(plain)) < 2 * PAGE_BYTES + 100


def test_bytes_of_another_chunk_are_refused() -> None:
    with pytest.raises(IntegrityError, match="do not match its hash"):
        decode(chunk_name(b"one"), encode(b"two"))


def test_a_name_that_is_no_hash_is_refused() -> None:
    with pytest.raises(IntegrityError):
        decode("../../etc/passwd", encode(b"bytes"))


def test_the_format_of_a_newer_release_is_named_as_such() -> None:
    with pytest.raises(FormatVersionError):
        decode(chunk_name(b"bytes"), b"CKC2" + encode(b"bytes")[4:])


def test_a_header_that_promises_more_than_a_chunk_is_refused_before_memory_is_made() -> None:
    for length, kept in ((0xFFFFFFFF, 0xFFFFFFFF), (CHUNK_BYTES + 1, 1), (0, 0), (1, 2)):
        with pytest.raises(IntegrityError):
            decode("0" * 64, struct.pack("<4sBBHII", b"CKC1", 1, 0, 0, length, kept) + b"\0" * 64)


def test_a_small_frame_that_unpacks_to_more_than_a_chunk_is_refused() -> None:
    bomb = encode(b"\1" * CHUNK_BYTES)
    assert len(bomb) < 10_000
    header = struct.pack("<4sBBHII", b"CKC1", 1, 0, 0, 1000, 1000)
    with pytest.raises(IntegrityError):
        decode(chunk_name(b"\1" * 1000), header + bomb[16:])


def test_a_frame_that_asks_for_more_window_than_a_chunk_is_refused() -> None:
    plain = b"crikpy " * 100
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = compressor.compress(plain) + compressor.flush()
    header = struct.pack("<4sBBHII", b"CKC1", 1, 0, 0, len(plain), len(plain))
    with pytest.raises(IntegrityError, match="cannot be decompressed"):
        decode(chunk_name(plain), header + frame)


def test_golden_bytes_of_a_raw_chunk_with_a_zero_page() -> None:
    assert chunk_name(_GOLDEN_PLAIN) == _GOLDEN_NAME
    assert encode(_GOLDEN_PLAIN) == _GOLDEN_RAW


def test_a_compressed_chunk_of_the_first_release_can_still_be_read() -> None:
    header = bytes.fromhex("434b433101000000bc020000bc020000")
    stored = header + bytes.fromhex("28b52ffd60bc01750000386372696b7079200100b2541523")
    assert decode(chunk_name(b"crikpy " * 100), stored) == b"crikpy " * 100
