"""Messages of the image stream: CRIU's bytes exactly, never one more, and nothing but CriuError for the rest."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crikpy.criu import framing
from crikpy.errors import CriuError

NAMES = st.text(st.characters(min_codepoint=1, max_codepoint=126), min_size=1, max_size=300)


@contextlib.contextmanager
def _pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Lend CRIU's end and ours."""
    criu, ours = socket.socketpair()
    criu.settimeout(20)
    ours.settimeout(20)
    with criu, ours:
        yield criu, ours


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe()
    try:
        yield read_end, write_end
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_request_has_the_bytes_of_criu() -> None:
    # img_streamer_request_entry { required string filename = 1; }, length first
    assert framing.encode_request("core-1.img") == struct.pack("=I", 12) + b"\x0a\x0acore-1.img"


def test_a_reply_has_the_bytes_of_criu() -> None:
    # img_streamer_reply_entry { required bool exists = 1; }
    assert framing.encode_reply(exists=True) == struct.pack("=I", 2) + b"\x08\x01"
    assert framing.encode_reply(exists=False) == struct.pack("=I", 2) + b"\x08\x00"


@given(name=NAMES)
@example(name="x" * 127)
@example(name="x" * 128)
def test_any_name_arrives_as_it_was_asked_for(name: str) -> None:
    with _pair() as (criu, ours):
        criu.sendall(framing.encode_request(name))
        assert framing.read_request(ours) == name


@given(names=st.lists(NAMES, max_size=5), tail=st.binary(max_size=20))
def test_a_message_is_read_to_its_end_and_not_beyond(names: list[str], tail: bytes) -> None:
    with _pair() as (criu, ours):
        criu.sendall(b"".join(framing.encode_request(name) for name in names) + tail)
        criu.shutdown(socket.SHUT_WR)
        assert [framing.read_request(ours) for _ in names] == names
        rest = b""
        while part := ours.recv(100):
            rest += part
        assert rest == tail


def test_a_message_may_come_byte_by_byte() -> None:
    with _pair() as (criu, ours):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        for byte in framing.encode_request("inventory.img"):
            criu.sendall(bytes([byte]))
        assert framing.read_request(ours) == "inventory.img"


def test_the_end_of_the_connection_is_the_end_of_the_requests() -> None:
    with _pair() as (criu, ours):
        criu.close()
        assert framing.read_request(ours) is None


@pytest.mark.parametrize("length", range(1, len(framing.encode_request("a.img"))))
def test_an_end_within_a_message_is_an_error(length: int) -> None:
    with _pair() as (criu, ours):
        criu.sendall(framing.encode_request("a.img")[:length])
        criu.close()
        with pytest.raises(CriuError, match="CRIU went away within a message"):
            framing.read_request(ours)


@pytest.mark.parametrize("length", [0, 1, 4097, 2**31, 2**32 - 1])
def test_a_length_that_no_request_has_is_refused_unread(length: int) -> None:
    with _pair() as (criu, ours):
        criu.sendall(struct.pack("=I", length))
        with pytest.raises(CriuError, match=f"a request of {length} bytes"):
            framing.read_request(ours)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x0a",
        b"\x12\x01x",  # another field
        b"\x08\x01",  # a reply
        b"\x0a\x02x",  # shorter than it says
        b"\x0a\x01xy",  # longer than it says
        b"\x0a\x01x\x0a\x01y",  # twice
        b"\x0a\xff\xff\xff\xff\xff\x01x",  # a length without end
        b"\x0a\x80",
        b"\x0a\x02\xc3\xa9",  # CRIU's names are ASCII
    ],
)
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(CriuError, match="CRIU sent a request that cannot be read"):
        framing.decode_request(body)


@given(garbage=st.binary(max_size=200))
def test_garbage_is_a_request_or_an_error_of_criu(garbage: bytes) -> None:
    with _pair() as (criu, ours):
        criu.sendall(garbage)
        criu.close()
        with contextlib.suppress(CriuError):
            while framing.read_request(ours) is not None:
                pass


@given(body=st.binary(max_size=200))
def test_what_is_read_is_what_would_be_written(body: bytes) -> None:
    with contextlib.suppress(CriuError):
        name = framing.decode_request(body)
        again = framing.encode_request(name)[4:]
        assert again == body or len(again) < len(body)  # a length may be written in more bytes than it needs


def test_the_pipe_that_follows_a_request_is_received() -> None:
    with _pair() as (criu, ours), _pipe() as (read_end, write_end):
        criu.sendall(framing.encode_request("a.img"))
        socket.send_fds(criu, [b"\0"], [read_end])
        criu.sendall(framing.encode_request("b.img"))
        assert framing.read_request(ours) == "a.img"
        received = framing.receive_pipe(ours)
        try:
            os.write(write_end, b"through")
            assert os.read(received, 100) == b"through"
            assert not os.get_inheritable(received)
        finally:
            os.close(received)
        assert framing.read_request(ours) == "b.img"


@pytest.mark.parametrize("instead", [b"", b"\0"])
def test_a_request_without_a_pipe_is_an_error(instead: bytes) -> None:
    with _pair() as (criu, ours):
        criu.sendall(instead)
        criu.close()
        with pytest.raises(CriuError, match="sent no pipe"):
            framing.receive_pipe(ours)
