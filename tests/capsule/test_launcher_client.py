"""Speaking with a launcher: its own words are understood, and any others are an error before the deadline."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.aio.clock import Deadline
from crikpy.capsule.launcher import LauncherConnection
from crikpy.capsule.making import CapsulePlan, PlainCapsule
from crikpy.errors import CrikpyError, DeadlineError, LauncherError, NoLauncherError
from crikpy.model.capsule import JobPhase, LauncherStatus
from tests.fakes.launcher import RUNNING, WAITING, Talk, hangs_up_after, launcher, repeats, says

SOON_S = 0.2
"""A deadline that a test wants to pass."""

LAUNCHER = os.environ.get("CRIKPY_CRIU_LAUNCHER", "")
real = pytest.mark.skipif(
    not os.access(LAUNCHER, os.X_OK) or os.geteuid() != 0, reason="needs root and CRIKPY_CRIU_LAUNCHER"
)


def soon() -> Deadline:
    """Return a deadline that will pass."""
    return Deadline.after(SOON_S)


def later() -> Deadline:
    """Return a deadline that no test reaches."""
    return Deadline.after(20)


@contextlib.contextmanager
def connected(folder: Path, talk: Talk) -> Iterator[LauncherConnection]:
    """Lend a connection to a launcher that talks so."""
    path = folder / "launch.sock"
    with launcher(path, talk), LauncherConnection(path, later()) as connection:
        yield connection


def test_the_greeting_tells_of_the_job(tmp_path: Path) -> None:
    with connected(tmp_path, says(RUNNING)) as found:
        assert found.greeting == LauncherStatus(phase=JobPhase.RUNNING, job_pid=9001, exit_status=None)
        assert found.ended_status is None
        assert not found.term_pending


def test_the_greeting_of_an_ended_job_has_its_status(tmp_path: Path) -> None:
    with connected(tmp_path, says(b"crikpy-launch 1 ended 9001 137\n")) as found:
        assert found.greeting == LauncherStatus(phase=JobPhase.ENDED, job_pid=9001, exit_status=137)
        assert found.wait_ended(later()) == 137


def test_the_launchers_pid_is_the_kernels_word(tmp_path: Path) -> None:
    with connected(tmp_path, says(WAITING)) as found:
        assert found.launcher_pid == os.getpid()


@pytest.mark.parametrize(
    ("give", "line"),
    [
        (lambda launcher: launcher.status(later()), "status\n"),
        (lambda launcher: launcher.start(later()), "start\n"),
        (lambda launcher: launcher.hold(later()), "hold\n"),
        (lambda launcher: launcher.release(later()), "release\n"),
        (lambda launcher: launcher.release(later(), 75), "release 75\n"),
        (lambda launcher: launcher.release(later(), 0), "release 0\n"),
        (lambda launcher: launcher.adopt(9001, later()), "adopt 9001\n"),
        (lambda launcher: launcher.pass_term(later()), "term pass\n"),
        (lambda launcher: launcher.hold_term(later()), "term hold\n"),
    ],
)
def test_each_order_has_its_line_and_an_answer(
    tmp_path: Path, give: Callable[[LauncherConnection], LauncherStatus], line: str
) -> None:
    heard: list[str] = []
    with connected(tmp_path, says(WAITING, b"ok running 9001 -1\n", heard=heard)) as found:
        assert give(found) == LauncherStatus(phase=JobPhase.RUNNING, job_pid=9001, exit_status=None)
    assert heard == [line]


def test_a_refused_order_says_which_and_why(tmp_path: Path) -> None:
    with (
        connected(tmp_path, says(WAITING, b"error state is not waiting\n")) as found,
        pytest.raises(LauncherError, match="refused `start`: state is not waiting"),
    ):
        found.start(later())


def test_a_job_that_somebody_else_holds_is_said_to_be_under_way(tmp_path: Path) -> None:
    with (
        connected(tmp_path, says(RUNNING, b"error held by another connection\n")) as found,
        pytest.raises(LauncherError, match="another checkpoint or restore of this job is under way"),
    ):
        found.hold(later())


def test_events_between_an_order_and_its_answer_are_kept(tmp_path: Path) -> None:
    with connected(tmp_path, says(RUNNING, b"event term\nevent ended 3\nok ended 9001 3\n")) as found:
        assert found.status(later()).exit_status == 3
        assert found.term_pending
        assert found.ended_status == 3
        assert found.wait_ended(later()) == 3


@pytest.mark.parametrize("answer", ["pass_term", "hold_term"])
def test_an_answered_term_is_pending_no_more(tmp_path: Path, answer: str) -> None:
    with connected(tmp_path, says(RUNNING + b"event term\n", b"ok running 9001 -1\n")) as found:
        while not found.term_pending:
            found.read_news()
        getattr(found, answer)(later())
        assert not found.term_pending


def test_the_end_of_the_job_is_waited_for(tmp_path: Path) -> None:
    with connected(tmp_path, says(RUNNING, b"ok running 9001 -1\nevent term\nevent ended 7\n")) as found:
        found.status(later())
        assert found.wait_ended(later()) == 7
        assert found.term_pending


def test_a_job_that_does_not_end_is_not_waited_for_longer(tmp_path: Path) -> None:
    with connected(tmp_path, says(RUNNING)) as found, pytest.raises(DeadlineError):
        found.wait_ended(soon())


def test_no_news_is_not_waited_for(tmp_path: Path) -> None:
    with connected(tmp_path, says(RUNNING)) as found:
        found.read_news()
        assert not found.term_pending


def test_lines_that_came_together_are_all_news(tmp_path: Path) -> None:
    with connected(tmp_path, says(RUNNING + b"event term\nevent ended 0\n")) as found:
        while found.ended_status is None:
            found.read_news()
        assert found.term_pending


def test_that_the_launcher_has_gone_is_news(tmp_path: Path) -> None:
    with connected(tmp_path, hangs_up_after(RUNNING)) as found, pytest.raises(LauncherError, match="is gone"):
        while True:
            found.read_news()


def test_hanging_up_is_seen_by_the_launcher(tmp_path: Path) -> None:
    gone = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.sendall(WAITING)
        if connection.recv(1) == b"":
            gone.set()

    with launcher(tmp_path / "launch.sock", talk):
        with LauncherConnection(tmp_path / "launch.sock", later()):
            pass
        assert gone.wait(20)


def test_another_protocol_is_refused_with_its_number(tmp_path: Path) -> None:
    with launcher(tmp_path / "s", says(b"crikpy-launch 2 waiting 0 -1\n")):
        with pytest.raises(LauncherError, match="speaks protocol 2, we speak 1") as caught:
            LauncherConnection(tmp_path / "s", later())
        assert caught.value.remedy


def test_a_launcher_that_refuses_us_says_why(tmp_path: Path) -> None:
    with (
        launcher(tmp_path / "s", hangs_up_after(b"error forbidden to all but the node's root\n")),
        pytest.raises(LauncherError, match="refuses us: forbidden to all but the node's root"),
    ):
        LauncherConnection(tmp_path / "s", later())


@pytest.mark.parametrize(
    "greeting",
    [
        b"\n",
        b"hello\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"crikpy-launch 1\n",
        b"crikpy-launch 1 dancing 0 -1\n",
        b"crikpy-launch 1 waiting zero -1\n",
        b"crikpy-launch 1 waiting 0 \n",
        b"\xff\xfe\x00\n",
    ],
)
def test_what_is_no_greeting_is_an_error(tmp_path: Path, greeting: bytes) -> None:
    with launcher(tmp_path / "s", says(greeting)), pytest.raises(LauncherError):
        LauncherConnection(tmp_path / "s", later())


@pytest.mark.parametrize(
    "answer", [b"ok\n", b"ok running\n", b"ok dancing 1 1\n", b"ok ended 1 x\n", b"yes\n", b"\n", b"event\n"]
)
def test_what_is_no_answer_is_an_error(tmp_path: Path, answer: bytes) -> None:
    with connected(tmp_path, says(WAITING, answer)) as found, pytest.raises(LauncherError):
        found.status(later())


@pytest.mark.parametrize(
    "event", [b"event ended x\n", b"event ended\n", b"event ended -1\n", b"event ended x 1\n", b"event \n"]
)
def test_what_is_no_event_is_an_error(tmp_path: Path, event: bytes) -> None:
    with connected(tmp_path, says(RUNNING + event)) as found, pytest.raises(LauncherError):
        found.wait_ended(later())


def test_words_that_a_later_launcher_adds_to_a_line_change_nothing(tmp_path: Path) -> None:
    answers = (
        b"crikpy-launch 1 waiting 0 -1 more\n",
        b"event term now\nevent ended 3 late\nok ended 9001 3 more words\n",
    )
    with connected(tmp_path, says(*answers)) as found:
        assert found.greeting == LauncherStatus(phase=JobPhase.WAITING, job_pid=0, exit_status=None)
        assert found.status(later()) == LauncherStatus(phase=JobPhase.ENDED, job_pid=9001, exit_status=3)
        assert found.term_pending
        assert found.wait_ended(later()) == 3


def test_events_of_a_later_launcher_are_passed_over(tmp_path: Path) -> None:
    answers = RUNNING + b"event pressure 9\nevent term\n", b"event pressure 8\nok running 9001 -1\nevent novelty\n"
    with connected(tmp_path, says(*answers)) as found:
        while not found.term_pending:
            found.read_news()
        assert found.status(later()) == LauncherStatus(phase=JobPhase.RUNNING, job_pid=9001, exit_status=None)
        found.read_news()
        assert found.ended_status is None


def test_a_request_that_an_older_launcher_does_not_know_is_refused_and_the_connection_stays(
    tmp_path: Path,
) -> None:
    answers = RUNNING, b"error unknown request\n", b"ok running 9001 -1\n"
    with connected(tmp_path, says(*answers)) as found:
        with pytest.raises(LauncherError, match="refused `hold`: unknown request"):
            found.hold(later())
        assert found.status(later()).phase is JobPhase.RUNNING


@pytest.mark.parametrize("first", [b"", WAITING], ids=["greeting", "answer"])
def test_a_line_without_end_is_an_error(tmp_path: Path, first: bytes) -> None:
    with (
        launcher(tmp_path / "s", repeats(b"x" * 100, first=first)),
        pytest.raises(LauncherError, match="a line that is too long"),
        LauncherConnection(tmp_path / "s", later()) as found,
    ):
        found.status(later())


def test_a_silent_launcher_is_not_waited_for(tmp_path: Path) -> None:
    with launcher(tmp_path / "s", says(b"")), pytest.raises(DeadlineError, match="waiting for the launcher"):
        LauncherConnection(tmp_path / "s", soon())


def test_an_unanswered_order_is_not_waited_for(tmp_path: Path) -> None:
    with (
        connected(tmp_path, says(WAITING)) as found,
        pytest.raises(DeadlineError, match="waiting for the launcher"),
    ):
        found.status(soon())


def test_a_launcher_that_speaks_letter_by_letter_does_not_keep_us(tmp_path: Path) -> None:
    with launcher(tmp_path / "s", repeats(b"c", pause_s=0.01)), pytest.raises(DeadlineError):
        LauncherConnection(tmp_path / "s", soon())


def test_events_without_end_do_not_keep_us(tmp_path: Path) -> None:
    with connected(tmp_path, repeats(b"event term\n" * 5000, first=RUNNING)) as found:
        with pytest.raises(DeadlineError):
            found.status(soon())
        with pytest.raises(DeadlineError):
            found.wait_ended(soon())


def test_no_further_event_is_taken_past_the_deadline(tmp_path: Path) -> None:
    at_once = RUNNING + b"event term\n" * 3 + b"ok running 9001 -1\n"
    with connected(tmp_path, says(at_once)) as found, pytest.raises(DeadlineError, match="listening"):
        found.status(Deadline.after(0))


def test_a_launcher_that_hears_nothing_does_not_keep_us(tmp_path: Path) -> None:
    deaf = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"crikpy-launch 1 running 9001 -1\n" + b"ok running 9001 -1\n" * 100_000)
        deaf.wait(20)

    with connected(tmp_path, talk) as found, pytest.raises(DeadlineError):
        try:
            while True:
                found.status(soon())
        finally:
            deaf.set()


@pytest.mark.parametrize("answers", [(b"",), (b"crikpy-laun",), (WAITING, b""), (WAITING, b"ok runn")])
def test_a_launcher_that_ends_is_gone(tmp_path: Path, answers: tuple[bytes, ...]) -> None:
    with (
        launcher(tmp_path / "s", hangs_up_after(*answers)),
        pytest.raises(LauncherError, match="the launcher is gone"),
        LauncherConnection(tmp_path / "s", later()) as found,
    ):
        found.status(later())


@pytest.mark.parametrize("place", ["no/folder/s", "absent", "file/s", "stale", "file"])
def test_where_nobody_listens_there_is_no_launcher(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with launcher(tmp_path / "stale", says(WAITING)):
        pass
    with pytest.raises(NoLauncherError, match="no launcher answers at"):
        LauncherConnection(tmp_path / place, later())


def test_a_launcher_that_accepts_nobody_does_not_keep_us(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "s"))
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(tmp_path / "s"))
        with pytest.raises(DeadlineError, match="to accept us"):
            LauncherConnection(tmp_path / "s", soon())


def test_a_path_longer_than_a_unix_address_is_reached(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with launcher(tmp_path / "s", says(WAITING)):
        (tmp_path / "s").rename(folder / "launch.sock")
        with LauncherConnection(folder / "launch.sock", later()) as found:
            assert found.greeting.phase is JobPhase.WAITING


@given(words=st.binary(max_size=100) | st.text("abcdefghijklmnopqrstuvwxyz 01-\n", max_size=60).map(str.encode))
def test_whatever_it_says_is_understood_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, words: bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    for talk in (hangs_up_after(words), hangs_up_after(RUNNING, words)):
        with (
            launcher(folder / "s", talk),
            contextlib.suppress(CrikpyError),
            LauncherConnection(folder / "s", later()) as found,
        ):
            found.status(later())
            found.wait_ended(later())
        (folder / "s").unlink()


@real
def test_the_real_launcher_is_understood(tmp_path: Path) -> None:
    plan = CapsulePlan(
        launcher=Path(LAUNCHER),
        socket=tmp_path / "launch.sock",
        temporary=tmp_path / "tmp",
        command=("/bin/sh", "-c", "exit 7"),
        agent_wait_s=3600,
    )
    made = PlainCapsule(plan, os.environ)
    with made.child:
        made.await_launcher()
        with LauncherConnection(plan.socket, later()) as found:
            assert found.greeting == LauncherStatus(phase=JobPhase.WAITING, job_pid=0, exit_status=None)
            assert os.readlink(f"/proc/{found.launcher_pid}/exe") == os.path.realpath(LAUNCHER)
            with pytest.raises(LauncherError, match="refused `adopt 4711`: unheld by this connection"):
                found.adopt(4711, later())
            assert found.hold(later()).phase is JobPhase.WAITING
            assert found.start(later()).phase is JobPhase.RUNNING
            assert found.wait_ended(later()) == 7
            assert found.release(later(), 75).exit_status == 7
        assert made.wait(later()) == 75
