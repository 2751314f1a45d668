"""The image of open files says what a job uses, and can be made to say what is so in another container."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.criu import openfiles, wire
from crikpy.criu.openfiles import NamedFile
from crikpy.errors import CriuError
from crikpy.model.network import End, InternetSocket, TcpState
from tests.criu import openfiles as written

ANY = End(address="0.0.0.0", port=0)


def same_socket(found: InternetSocket) -> InternetSocket:
    return found


def same_file(found: NamedFile) -> NamedFile:
    return found


def moved(found: InternetSocket) -> InternetSocket:
    address = {"10.77.1.2": "10.77.2.2", "fd00:77::1": "fd00:77::2"}
    return replace(
        found,
        source=replace(found.source, address=address.get(found.source.address, found.source.address)),
    )


SOCKETS = (
    written.inet(1, ("10.77.1.2", 80), state=written.LISTENING),
    written.inet(2, ("fd00:77::1", 80), family=socket.AF_INET6, protocol=socket.IPPROTO_UDP),
    written.inet(3, ("10.77.1.2", 81), family=socket.AF_INET6, device="eth0"),
    written.inet(4, ("127.0.0.1", 5), ("127.0.0.1", 6), state=written.CONNECTED),
)
IMAGE = written.files_image(
    SOCKETS[0], written.pipe(9), *SOCKETS[1:], written.regular(10, "/etc/hosts"), written.regular(11, "/data/x")
)


def test_sockets_are_read_with_mapped_addresses_as_what_they_map() -> None:
    first, second, third, fourth = openfiles.sockets(IMAGE)
    assert first == InternetSocket(
        inode=1,
        family=socket.AF_INET,
        protocol=socket.IPPROTO_TCP,
        state=TcpState.LISTEN,
        source=End(address="10.77.1.2", port=80),
        destination=ANY,
    )
    assert (second.source, second.destination.address) == (End(address="fd00:77::1", port=80), "::")
    assert (third.source, third.device) == (End(address="10.77.1.2", port=81), "eth0")
    assert (fourth.state, fourth.destination) == (TcpState.ESTABLISHED, End(address="127.0.0.1", port=6))


def test_what_is_not_changed_stays_byte_for_byte() -> None:
    assert openfiles.rewritten(IMAGE, same_socket, same_file) == IMAGE


def test_addresses_are_replaced_in_every_family_and_nothing_else_is() -> None:
    found = openfiles.rewritten(IMAGE, moved, same_file)
    there = openfiles.sockets(found)
    assert [each.source.address for each in there] == ["10.77.2.2", "fd00:77::2", "10.77.2.2", "127.0.0.1"]
    assert [replace(each, source=ANY) for each in there] == [
        replace(each, source=ANY) for each in openfiles.sockets(IMAGE)
    ]
    for before, after in zip(wire.records(IMAGE, written.MAGIC), wire.records(found, written.MAGIC), strict=True):
        assert _but_for_addresses(after) == _but_for_addresses(before)


def _but_for_addresses(message: bytes) -> list[list[tuple[int, wire.Value]]]:
    inner = [field for field in wire.fields(wire.part(message, 4)) if field[0] not in {11, 12}]
    return [inner, [field for field in wire.fields(message) if field[0] != 4]]


def test_a_connection_can_be_made_one_that_has_ended() -> None:
    entry = wire.part(wire.records(openfiles.rewritten(IMAGE, lambda _: None, same_file), written.MAGIC)[-3], 4)
    assert [wire.number(entry, number) for number in (6, 7, 8, 10, 19)] == [TcpState.CLOSE, 0, 0, 0, 3]
    assert (wire.numbers(entry, 11), wire.numbers(entry, 12)) == ((0,), (0,))
    assert wire.number(wire.part(entry, 14), 2) == 131072


def test_unix_sockets_that_are_connected_to_others_are_at_their_end_and_those_within_are_not() -> None:
    datagrams = int(socket.SOCK_DGRAM)
    image = written.files_image(
        *(written.unix(1, 2), written.unix(2, 1), written.unix(3, 0), written.unix(4, 99)),
        *(written.unix(5, 6), written.unix(6, 0, outside=True), written.unix(7, 98, kind=datagrams)),
    )
    entries = [
        wire.part(one, 16)
        for one in wire.records(openfiles.rewritten(image, same_socket, same_file), written.MAGIC)
    ]
    assert [wire.number(entry, 8) for entry in entries] == [2, 1, 0, 0, 0, 0, 0]
    assert [wire.number(entry, 12) for entry in entries] == [0, 0, 0, 3, 3, 0, 0]
    assert {wire.part(entry, 11) for entry in entries} == {b"name"}


def test_files_are_renamed_and_their_size_is_not_compared() -> None:
    def elsewhere(file: NamedFile) -> NamedFile:
        return NamedFile(name="/etc/other", checked=False) if file.name == "/etc/hosts" else file

    messages = wire.records(openfiles.rewritten(IMAGE, same_socket, elsewhere), written.MAGIC)
    hosts, data = (wire.part(one, 3) for one in messages[-2:])
    assert wire.part(hosts, 6) == b"/etc/other"
    assert (wire.first(hosts, 8), wire.first(hosts, 10)) == (None, None)
    assert wire.number(hosts, 3) == 7
    assert (wire.part(data, 6), wire.number(data, 8)) == (b"/data/x", 10)


def test_files_without_a_name_and_directories_are_told_from_others() -> None:
    def remap(number: int, kind: int) -> bytes:
        return written.message((1, number), (2, 1), (3, kind))

    removed = openfiles.removed_files(wire.image_of(0x59133954, [remap(10, 1), remap(11, 0)]))
    seen: list[NamedFile] = []

    def see(file: NamedFile) -> NamedFile:
        seen.append(file)
        return file

    image = written.files_image(
        written.regular(10, "/gone"), written.regular(11, "/linked"), written.regular(12, "/here", mode=0o40755)
    )
    assert openfiles.rewritten(image, same_socket, see, removed) == image
    assert seen == [
        NamedFile(name="/gone", removed=True),
        NamedFile(name="/linked"),
        NamedFile(name="/here", directory=True),
    ]


@pytest.mark.parametrize(
    "entry",
    [
        wire.field(4, written.message((2, 1), (3, socket.AF_INET), (11, 1), (11, 2), (12, 1))),
        wire.field(4, written.message((2, 1), (3, 77), (11, 1), (12, 1))),
        wire.field(4, written.message((2, 1), (3, socket.AF_INET), (11, 2**40), (12, 1))),
        wire.field(4, b"\x08"),
    ],
    ids=["too many words", "unknown family", "too large a word", "cut off"],
)
def test_a_socket_that_makes_no_sense_is_refused(entry: bytes) -> None:
    with pytest.raises(CriuError):
        openfiles.sockets(written.files_image(entry))


@given(st.lists(st.sampled_from([*SOCKETS, written.pipe(5), written.regular(6, "/x")]), max_size=6), st.binary())
def test_any_bytes_are_understood_or_refused(entries: list[bytes], noise: bytes) -> None:
    for image in (noise, written.files_image(*entries) + noise, written.files_image(*entries, noise)):
        try:
            found = openfiles.rewritten(image, moved, same_file)
        except CriuError:
            continue
        assert len(openfiles.sockets(found)) == len(openfiles.sockets(image))
