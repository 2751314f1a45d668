"""Feeding a restore: every image whole, however its pieces arrive, or pipes that end and the source's error."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crikpy.criu.serving import ServeServer
from crikpy.errors import CriuError, IntegrityError
from tests.criu.images import Source, everything_open, until
from tests.fakes.criu import Streamer, content, read_whole

SOCKET = "streamer-serve.sock"
FLIPPED = IntegrityError("a chunk has other bytes")


@pytest.fixture(autouse=True)
def _leaves_nothing(tmp_path: Path) -> Iterator[None]:
    before = everything_open()
    yield
    until(lambda: everything_open() == before, "everything closed")
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def _serving(folder: Path, source: Source) -> Iterator[tuple[ServeServer, Streamer]]:
    """Lend a server and CRIU's connection to it."""
    with contextlib.closing(source), ServeServer(folder, source) as server, Streamer(folder / SOCKET) as criu:
        yield server, criu


def _fetch(criu: Streamer, name: str) -> int:
    pipe = criu.fetch(name)
    assert pipe is not None
    return pipe


@pytest.mark.parametrize("size", [0, 1, 4096, 100_000, 100_001, 3_000_000])
@pytest.mark.parametrize("fetched", [False, True], ids=["there", "fetched"])
def test_an_image_is_fed_whole(tmp_path: Path, size: int, fetched: bool) -> None:
    source = Source({"pages-1.img": content("pages", size)}, fetched=fetched)
    with _serving(tmp_path, source) as (server, criu):
        assert read_whole(_fetch(criu, "pages-1.img")) == content("pages", size)
        assert server.fed_bytes == size
        assert source.is_acknowledged()


def test_an_image_that_does_not_exist_is_denied(tmp_path: Path) -> None:
    with _serving(tmp_path, Source({"a.img": b"here"})) as (_, criu):
        assert criu.fetch("b.img") is None
        assert read_whole(_fetch(criu, "a.img")) == b"here"


@pytest.mark.parametrize("fetched", [False, True], ids=["there", "fetched"])
def test_many_images_are_fed_at_once(tmp_path: Path, fetched: bool) -> None:
    images = {f"pages-{number}.img": content(f"{number}", 300_000 + number) for number in range(40)}
    found: dict[str, bytes] = {}

    def read(name: str, pipe: int) -> None:
        found[name] = read_whole(pipe)

    with _serving(tmp_path, Source(images, piece_bytes=70_000, fetched=fetched)) as (_, criu):
        # All pipes are full before the first is read, as when CRIU opens the images of every process.
        readers = [threading.Thread(target=read, args=(name, _fetch(criu, name))) for name in images]
        for reader in reversed(readers):
            reader.start()
        for reader in readers:
            reader.join()
    assert found == images


def test_an_image_may_be_read_more_than_once(tmp_path: Path) -> None:
    with _serving(tmp_path, Source({"a.img": b"again"})) as (_, criu):
        assert [read_whole(_fetch(criu, "a.img")) for _ in range(3)] == [b"again"] * 3


def test_one_slow_reader_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    images = {"pages-1.img": content("1", 5_000_000), "core-1.img": b"small"}
    with _serving(tmp_path, Source(images)) as (_, criu):
        slow = _fetch(criu, "pages-1.img")
        assert read_whole(_fetch(criu, "core-1.img")) == b"small"
        assert read_whole(slow) == images["pages-1.img"]


def test_no_piece_is_asked_for_before_there_is_room_for_it(tmp_path: Path) -> None:
    source = Source({"pages-1.img": content("1", 50_000_000)})
    with _serving(tmp_path, source) as (server, criu):
        pipe = _fetch(criu, "pages-1.img")
        until(lambda: server.fed_bytes > 0, "the first bytes")
        assert criu.fetch("other.img") is None  # the server has come round by then
        assert server.fed_bytes < 5_000_000
        os.close(pipe)


@pytest.mark.parametrize("fetched", [False, True], ids=["there", "fetched"])
def test_an_image_that_is_not_read_to_its_end_harms_nobody(tmp_path: Path, fetched: bool) -> None:
    images = {"pages-1.img": content("1", 5_000_000), "core-1.img": b"small"}
    with _serving(tmp_path, Source(images, fetched=fetched)) as (server, criu):
        pipe = _fetch(criu, "pages-1.img")
        assert os.read(pipe, 10) == images["pages-1.img"][:10]
        os.close(pipe)
        assert read_whole(_fetch(criu, "core-1.img")) == b"small"
        assert server.failure is None


def test_a_source_that_fails_ends_every_image_and_says_why(tmp_path: Path) -> None:
    source = Source({"pages-1.img": content("1", 5_000_000), "pages-2.img": content("2", 5_000_000)})
    source.fail_at["pages-2.img"] = (1_500_000, FLIPPED)
    with _serving(tmp_path, source) as (server, criu):
        first, second = _fetch(criu, "pages-1.img"), _fetch(criu, "pages-2.img")
        assert len(read_whole(second)) < 5_000_000
        assert len(read_whole(first)) < 5_000_000
        assert criu.connection.recv(1) == b""
        until(lambda: server.failure is FLIPPED, "the source's own error")


def test_a_source_that_fails_while_it_fetches_says_why(tmp_path: Path) -> None:
    source = Source({"pages-1.img": content("1", 500_000)}, fetched=True)
    source.fail_at["pages-1.img"] = (300_000, FLIPPED)
    with _serving(tmp_path, source) as (server, criu):
        assert read_whole(_fetch(criu, "pages-1.img")) == content("1", 300_000)
        until(lambda: server.failure is FLIPPED, "the source's own error")


def test_a_defect_of_the_source_is_an_error_of_the_stream(tmp_path: Path) -> None:
    defect = ZeroDivisionError("a defect")
    source = Source({"a.img": b"x"})
    source.fail_at["a.img"] = (0, defect)
    with _serving(tmp_path, source) as (server, criu):
        assert read_whole(_fetch(criu, "a.img")) == b""
        until(lambda: server.failure is not None, "the failure")
        assert isinstance(server.failure, CriuError)
        assert server.failure.__cause__ is defect


def test_an_abort_ends_every_image(tmp_path: Path) -> None:
    with _serving(tmp_path, Source({"a.img": content("1", 5_000_000)})) as (server, criu):
        pipe = _fetch(criu, "a.img")
        server.abort()
        assert len(read_whole(pipe)) < 5_000_000
        assert server.failure is None


def _vanishes(criu: Streamer) -> None:
    criu.connection.sendall(b"\x0c\x00\x00\x00\x0a\x0aco")


def _refuses_to_send_a_pipe(criu: Streamer) -> None:
    criu.request("a.img")
    assert criu.connection.recv(6) == b"\x02\x00\x00\x00\x08\x01"


def _talks_of_something_else(criu: Streamer) -> None:
    criu.connection.sendall(b"\x00" * 64)


@pytest.mark.parametrize("last_words", [_vanishes, _refuses_to_send_a_pipe, _talks_of_something_else])
def test_a_peer_that_dies_or_errs_within_a_message_ends_the_stream(
    tmp_path: Path, last_words: Callable[[Streamer], None]
) -> None:
    with _serving(tmp_path, Source({"a.img": content("1", 5_000_000)})) as (server, criu):
        pipe = _fetch(criu, "a.img")
        last_words(criu)
        criu.connection.close()
        assert len(read_whole(pipe)) < 5_000_000
        until(lambda: isinstance(server.failure, CriuError), "an error of CRIU")


@pytest.mark.parametrize("last_words", [_vanishes, _refuses_to_send_a_pipe])
def test_a_peer_that_stops_within_a_message_does_not_keep_us(
    tmp_path: Path, last_words: Callable[[Streamer], None]
) -> None:
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(contextlib.closing(Source({"a.img": b"x"})))
        with ServeServer(tmp_path, source) as server:
            last_words(stack.enter_context(Streamer(tmp_path / SOCKET)))
        assert server.failure is None


def test_a_peer_may_leave_with_images_half_read(tmp_path: Path) -> None:
    with _serving(tmp_path, Source({"a.img": content("1", 5_000_000)})) as (server, criu):
        pipe = _fetch(criu, "a.img")
        criu.connection.close()
        assert read_whole(pipe) == content("1", 5_000_000)
        assert server.failure is None


def test_a_peer_that_never_comes_is_not_waited_for(tmp_path: Path) -> None:
    with contextlib.closing(Source({})) as source, ServeServer(tmp_path, source) as server:
        pass
    assert server.failure is None
