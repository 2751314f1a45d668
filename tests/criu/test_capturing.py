"""Taking a dump's images: all of them whole, or an error and pipes that are closed, whatever the peer does."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crikpy.aio.clock import Deadline
from crikpy.criu.capturing import CaptureServer
from crikpy.errors import CriuError, DeadlineError, StoreUnavailableError
from tests.criu.images import Sink, SinkWriter, everything_open, until
from tests.fakes.criu import Streamer, content, write_whole

LONG = Deadline.after(86_400)
SOCKET = "streamer-capture.sock"
LOST = StoreUnavailableError("the network is gone")


@pytest.fixture(autouse=True)
def _leaves_nothing(tmp_path: Path) -> Iterator[None]:
    before = everything_open()
    yield
    assert everything_open() == before
    assert list(tmp_path.iterdir()) == []


def _finish(server: CaptureServer) -> None:
    """Finish a dump that must fail."""
    server.finish(LONG)


def _sees_a_broken_pipe(pipe: int) -> bool:
    """Write as CRIU does; return whether the other end gets closed, for CRIU would wait for ever otherwise."""
    last = time.monotonic() + 20
    os.set_blocking(pipe, False)
    try:
        while time.monotonic() < last:
            try:
                os.write(pipe, b"x" * 65536)
            except BlockingIOError:
                time.sleep(0.005)
        return False
    except BrokenPipeError:
        return True
    finally:
        os.close(pipe)


def test_a_folder_that_takes_no_socket_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(CriuError, match="No such file or directory") as caught:
        CaptureServer(tmp_path / "absent", Sink())
    assert caught.value.remedy


def test_images_that_are_written_one_after_the_other_arrive(tmp_path: Path) -> None:
    sink = Sink()
    with CaptureServer(tmp_path, sink) as server:
        with Streamer(tmp_path / SOCKET) as criu:
            for number in range(30):
                write_whole(criu.dump(f"core-{number}.img"), content(f"{number}", 100 * number))
        server.finish(LONG)
    assert sink.whole == {f"core-{number}.img": content(f"{number}", 100 * number) for number in range(30)}


def test_many_images_at_once_do_not_mix(tmp_path: Path) -> None:
    sink = Sink(buffer_bytes=5000)
    names = [f"pages-{number}.img" for number in range(60)]
    with CaptureServer(tmp_path, sink) as server:
        with Streamer(tmp_path / SOCKET) as criu:
            writers = [
                threading.Thread(target=write_whole, args=(criu.dump(name), content(name, 50_000)))
                for name in names
            ]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
        server.finish(LONG)
    assert sink.whole == {name: content(name, 50_000) for name in names}


def test_an_image_that_is_larger_than_any_pipe_arrives_while_it_is_written(tmp_path: Path) -> None:
    sink = Sink(buffer_bytes=1024 * 1024)
    with CaptureServer(tmp_path, sink) as server:
        with Streamer(tmp_path / SOCKET) as criu:
            write_whole(criu.dump("pages-1.img"), content("pages", 32 * 1024 * 1024))
        server.finish(LONG)
    assert sink.whole["pages-1.img"] == content("pages", 32 * 1024 * 1024)


def test_what_was_written_before_anybody_looked_arrives(tmp_path: Path) -> None:
    sink = Sink()
    server = CaptureServer(tmp_path, sink)  # listens, but has no thread yet
    with Streamer(tmp_path / SOCKET) as criu:
        write_whole(criu.dump("a.img"), b"early")
        write_whole(criu.dump("b.img"), b"")
    with server:
        server.finish(LONG)
    assert sink.whole == {"a.img": b"early", "b.img": b""}


def test_a_dump_without_images_is_finished_at_once(tmp_path: Path) -> None:
    with CaptureServer(tmp_path, Sink()) as server:
        server.finish(LONG)
        assert server.first_image_at is None


def test_the_time_of_the_first_image_is_kept(tmp_path: Path) -> None:
    with CaptureServer(tmp_path, Sink()) as server:
        with Streamer(tmp_path / SOCKET) as criu:
            before = time.monotonic()
            write_whole(criu.dump("a.img"), b"1")
            until(lambda: server.first_image_at is not None, "the first image")
            after = time.monotonic()
            write_whole(criu.dump("b.img"), b"2")
        server.finish(LONG)
        assert server.first_image_at is not None
        assert before <= server.first_image_at <= after


def test_finishing_waits_for_what_is_still_in_the_pipes(tmp_path: Path) -> None:
    sink = Sink()
    with CaptureServer(tmp_path, sink) as server:
        with Streamer(tmp_path / SOCKET) as criu:
            pipe = criu.dump("a.img")
        late = threading.Timer(0.1, write_whole, (pipe, b"late"))
        late.start()
        server.finish(LONG)
        late.join()
    assert sink.whole == {"a.img": b"late"}


@pytest.mark.parametrize("at", [-1, 0, 200_000])
def test_when_the_sink_fails_criu_sees_its_pipes_break(tmp_path: Path, at: int) -> None:
    sink = Sink(fail_at={"pages-1.img": (at, LOST)})
    with CaptureServer(tmp_path, sink) as server, Streamer(tmp_path / SOCKET) as criu:
        other, pages = criu.dump("core-1.img"), criu.dump("pages-1.img")
        assert _sees_a_broken_pipe(pages)
        assert _sees_a_broken_pipe(other)
        with pytest.raises(StoreUnavailableError) as caught:
            _finish(server)
        assert caught.value is LOST
    assert sink.whole == {}


def test_when_the_sink_fails_criu_can_ask_for_nothing_more(tmp_path: Path) -> None:
    with (
        CaptureServer(tmp_path, Sink(fail_at={"a.img": (0, LOST)})) as server,
        Streamer(tmp_path / SOCKET) as criu,
    ):
        write_whole(criu.dump("a.img"), b"x")
        until(lambda: server.failure is not None, "the failure")
        assert criu.connection.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            Streamer(tmp_path / SOCKET)


def test_a_sink_that_fails_at_an_images_very_end_fails_the_dump(tmp_path: Path) -> None:
    with CaptureServer(tmp_path, Sink(fail_at={"a.img": (None, LOST)})) as server:
        with Streamer(tmp_path / SOCKET) as criu:
            write_whole(criu.dump("a.img"), b"x")
        with pytest.raises(StoreUnavailableError):
            _finish(server)


def test_a_defect_of_the_sink_is_no_success(tmp_path: Path) -> None:
    defect = RuntimeError("cannot schedule new futures")
    with CaptureServer(tmp_path, Sink(fail_at={"a.img": (None, defect)})) as server:
        with Streamer(tmp_path / SOCKET) as criu:
            write_whole(criu.dump("a.img"), b"x")
        with pytest.raises(CriuError, match="broke: cannot schedule new futures") as caught:
            _finish(server)
        assert caught.value.__cause__ is defect


def _half_a_length(criu: Streamer) -> None:
    criu.connection.sendall(b"\x05\x00")


def _half_a_request(criu: Streamer) -> None:
    criu.connection.sendall(struct.pack("=I", 12) + b"\x0a\x0acore")


def _no_pipe(criu: Streamer) -> None:
    criu.request("a.img")


def _garbage(criu: Streamer) -> None:
    criu.connection.sendall(b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize("last_words", [_half_a_length, _half_a_request, _no_pipe, _garbage])
def test_a_peer_that_dies_or_errs_within_a_message_fails_the_dump(
    tmp_path: Path, last_words: Callable[[Streamer], None]
) -> None:
    with CaptureServer(tmp_path, Sink()) as server:
        with Streamer(tmp_path / SOCKET) as criu:
            open_pipe = criu.dump("core-1.img")
            last_words(criu)
        assert _sees_a_broken_pipe(open_pipe)
        with pytest.raises(CriuError):
            _finish(server)


@pytest.mark.parametrize("last_words", [_half_a_length, _half_a_request, _no_pipe])
def test_a_peer_that_stops_within_a_message_does_not_keep_us(
    tmp_path: Path, last_words: Callable[[Streamer], None]
) -> None:
    with contextlib.ExitStack() as stack:
        with CaptureServer(tmp_path, Sink()) as server:
            criu = stack.enter_context(Streamer(tmp_path / SOCKET))
            pipe = criu.dump("core-1.img")
            until(lambda: server.first_image_at is not None, "the first image")
            last_words(criu)
        assert _sees_a_broken_pipe(pipe)
        assert server.failure is None


def test_an_abort_breaks_criu_s_pipes_and_is_no_success(tmp_path: Path) -> None:
    sink = Sink()
    with CaptureServer(tmp_path, sink) as server, Streamer(tmp_path / SOCKET) as criu:
        pipe = criu.dump("pages-1.img")
        os.write(pipe, b"some")
        until(lambda: bool(sink.parts.get("pages-1.img")), "the first bytes")
        server.abort()
        assert _sees_a_broken_pipe(pipe)
        with pytest.raises(CriuError, match="was cut"):
            _finish(server)
    assert sink.whole == {}


def test_leaving_early_breaks_criu_s_pipes(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        with CaptureServer(tmp_path, Sink()):
            pipe = stack.enter_context(Streamer(tmp_path / SOCKET)).dump("pages-1.img")
        assert _sees_a_broken_pipe(pipe)


def test_only_one_peer_is_served_at_a_time(tmp_path: Path) -> None:
    sink = Sink()
    with CaptureServer(tmp_path, sink) as server:
        with Streamer(tmp_path / SOCKET) as criu:
            pipe = criu.dump("a.img")
            until(lambda: "a.img" in sink.parts, "the first peer's image")
            with socket.socket(socket.AF_UNIX) as second:
                second.settimeout(20)
                second.connect(str(tmp_path / SOCKET))
                assert second.recv(1) == b""
            write_whole(pipe, b"unharmed")
            write_whole(criu.dump("b.img"), b"as well")
        server.finish(LONG)
    assert sink.whole == {"a.img": b"unharmed", "b.img": b"as well"}


def test_a_sink_that_takes_too_long_is_not_waited_for(tmp_path: Path) -> None:
    class SlowSink(Sink):
        def open(self, name: str) -> SinkWriter:
            go_on.wait(20)
            return super().open(name)

    go_on = threading.Event()
    with CaptureServer(tmp_path, SlowSink()) as server:
        with Streamer(tmp_path / SOCKET) as criu:
            write_whole(criu.dump("a.img"), b"x")
        with pytest.raises(DeadlineError, match="while the store took the last images"):
            server.finish(Deadline.after(0.1))
        go_on.set()


def test_only_the_owner_reaches_the_socket(tmp_path: Path) -> None:
    with CaptureServer(tmp_path, Sink()):
        assert (tmp_path / SOCKET).stat().st_mode & 0o777 == 0o600
