"""The log: one line of JSON for collectors, one plain line for people, the facts of a record in both."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy import log
from crikpy.aio.threads import Pool, Thread
from crikpy.errors import StoreUnavailableError


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    """Lend the root logger and put it back as it was."""
    found = logging.getLogger()
    before, level = list(found.handlers), found.level
    yield found
    found.handlers[:] = before
    found.setLevel(level)


@pytest.fixture
def stream() -> io.StringIO:
    """Stands for standard error."""
    return io.StringIO()


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_has_time_level_logger_and_message(stream: io.StringIO) -> None:
    log.set_up(as_json=True, stream=stream)
    before = datetime.now(UTC)
    logging.getLogger("crikpy.store").warning("chunk %s is %d bytes", "ab12", 7)
    (line,) = _lines(stream)
    when = datetime.fromisoformat(line.pop("time"))
    assert before.replace(microsecond=0) <= when <= datetime.now(UTC)
    assert line == {"level": "warning", "logger": "crikpy.store", "message": "chunk ab12 is 7 bytes"}


def test_facts_of_a_record_are_members_of_its_line(stream: io.StringIO) -> None:
    log.set_up(as_json=True, stream=stream)
    logging.getLogger("x").info("done", extra={"bytes": 12, "pod": "a/b", "path": Path("/tmp/x")})
    (line,) = _lines(stream)
    assert (line["bytes"], line["pod"], line["path"]) == (12, "a/b", "/tmp/x")


def test_a_fact_cannot_hide_what_every_line_has(stream: io.StringIO) -> None:
    log.set_up(as_json=True, stream=stream)
    logging.getLogger("x").info("done", extra={"level": "9", "logger": "y", "time": "noon"})
    (line,) = _lines(stream)
    assert (line["level"], line["logger"]) == ("info", "x")
    datetime.fromisoformat(line["time"])


def test_a_failure_is_told_with_its_trace_in_the_same_line(stream: io.StringIO) -> None:
    log.set_up(as_json=True, stream=stream)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("x").exception("it broke")
    (line,) = _lines(stream)
    assert line["level"] == "error"
    assert "ValueError: two\nlines" in line["exception"]
    assert "Traceback" in line["exception"]


@given(message=st.text(), fact=st.text())
def test_any_text_stays_on_one_line_and_comes_back_whole(message: str, fact: str) -> None:
    stream = io.StringIO()
    log.set_up(as_json=True, stream=stream)
    logging.getLogger("x").info("%s", message, extra={"fact": fact})
    assert stream.getvalue().count("\n") == 1
    (line,) = _lines(stream)
    assert (line["message"], line["fact"]) == (message, fact)


def test_people_read_a_plain_line_with_the_facts_behind_it(stream: io.StringIO) -> None:
    log.set_up(as_json=False, stream=stream)
    logging.getLogger("x").info("committed", extra={"bytes": 12, "checkpoint": "c1"})
    assert stream.getvalue() == "crikpy: committed bytes=12 checkpoint=c1\n"


def test_people_see_the_level_only_where_something_is_wrong(stream: io.StringIO) -> None:
    log.set_up(as_json=False, stream=stream, level=logging.DEBUG)
    logger = logging.getLogger("x")
    for tell in (logger.debug, logger.info, logger.warning, logger.error):
        tell("so")
    assert stream.getvalue() == "crikpy: so\ncrikpy: so\ncrikpy: warning: so\ncrikpy: error: so\n"


def test_people_see_the_trace_below_the_line(stream: io.StringIO) -> None:
    log.set_up(as_json=False, stream=stream)
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("x").exception("it broke")
    first, second, *_, last = stream.getvalue().splitlines()
    assert (first, last) == ("crikpy: error: it broke", "ValueError: why")
    assert second.startswith("Traceback")


def test_records_below_the_level_are_left_out(stream: io.StringIO) -> None:
    log.set_up(as_json=True, stream=stream)
    logging.getLogger("x").debug("detail")
    assert _lines(stream) == []


def test_chatty_libraries_are_heard_only_when_they_warn(stream: io.StringIO) -> None:
    log.set_up(as_json=True, level=logging.DEBUG, stream=stream)
    logging.getLogger("botocore.endpoint").info("request")
    logging.getLogger("botocore.endpoint").warning("trouble")
    assert [line["message"] for line in _lines(stream)] == ["trouble"]


def test_setting_up_twice_writes_each_line_once(stream: io.StringIO, root: logging.Logger) -> None:
    log.set_up(as_json=True, stream=io.StringIO())
    log.set_up(as_json=True, stream=stream)
    root.info("once")
    assert len(_lines(stream)) == 1


def test_the_log_goes_to_standard_error_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up(as_json=False)
    logging.getLogger("x").info("so")
    assert capsys.readouterr() == ("", "crikpy: so\n")


# What records are about.


def test_records_within_say_what_they_are_about_and_others_do_not(stream: io.StringIO) -> None:
    log.set_up(as_json=True, stream=stream, process={"component": "agent", "node": "n1"})
    logger = logging.getLogger("x")
    with log.about(pod="ns/train-0", workload="sts-train-0"):
        with log.about(checkpoint="c1"):
            logger.info("inner")
        logger.info("outer")
    logger.info("none")
    inner, outer, none = _lines(stream)
    subject = ("pod", "namespace", "workload", "checkpoint", "component", "node")
    assert [inner.get(key) for key in subject] == ["ns/train-0", "ns", "sts-train-0", "c1", "agent", "n1"]
    assert [outer.get(key) for key in subject] == ["ns/train-0", "ns", "sts-train-0", None, "agent", "n1"]
    assert [none.get(key) for key in subject] == [None, None, None, None, "agent", "n1"]


def test_text_says_what_it_is_about_behind_the_message(stream: io.StringIO) -> None:
    log.set_up(as_json=False, stream=stream, process={"component": "agent"})
    with log.about(pod="ns/train-0", checkpoint="c1"):
        logging.getLogger("x").warning("so", extra={"why": 'two "words"'})
    assert stream.getvalue() == 'crikpy: warning: so why="two \\"words\\"" pod=ns/train-0 checkpoint=c1\n'


def test_text_of_a_service_begins_with_time_and_level(stream: io.StringIO) -> None:
    log.set_up(as_json=False, stream=stream, timed=True)
    logging.getLogger("x").info("so")
    when, level, message = stream.getvalue().rstrip().split(" ")
    assert (when[-1], level, message) == ("Z", "info:", "so")
    datetime.fromisoformat(when)


def test_what_a_record_says_itself_counts_more_than_its_subject(stream: io.StringIO) -> None:
    log.set_up(as_json=True, stream=stream)
    with log.about(pod="ns/a", message="x", levelname="x"):
        logging.getLogger("x").info("so", extra={"pod": "ns/b"})
    (line,) = _lines(stream)
    assert (line["pod"], line["message"], line["level"]) == ("ns/b", "so", "info")


def test_what_turns_out_later_is_said_from_then_on_also_by_threads_begun_before(stream: io.StringIO) -> None:
    log.set_up(as_json=True, stream=stream)
    told = threading.Event()

    def work() -> None:
        told.wait(30)
        logging.getLogger("x").info("in the thread")

    with log.about(pod="ns/a"):
        thread = Thread(target=work, name="worker")
        thread.start()
        log.learn(checkpoint="c7")
        told.set()
        thread.join(30)
    assert [(line["pod"], line["checkpoint"]) for line in _lines(stream)] == [("ns/a", "c7")]


def test_learning_where_nothing_is_talked_about_changes_nothing(stream: io.StringIO) -> None:
    log.set_up(as_json=True, stream=stream)
    log.learn(checkpoint="c7")
    logging.getLogger("x").info("so")
    assert "checkpoint" not in _lines(stream)[0]


def test_a_source_is_asked_at_each_record_and_what_is_empty_hides_nothing(stream: io.StringIO) -> None:
    log.set_up(as_json=True, stream=stream)
    known = {"pod": "", "checkpoint": ""}
    with log.about(pod="uid-1"), log.about(lambda: known):
        logging.getLogger("x").info("first")
        known.update(pod="ns/a", checkpoint="c1")
        logging.getLogger("x").info("second")
    first, second = _lines(stream)
    assert (first["pod"], first.get("checkpoint")) == ("uid-1", None)
    assert (second["pod"], second["checkpoint"]) == ("ns/a", "c1")


def test_each_piece_of_work_of_a_pool_is_about_what_its_asker_works_on(stream: io.StringIO) -> None:
    log.set_up(as_json=True, stream=stream)
    logger = logging.getLogger("x")
    with Pool(1) as pool:
        for pod in ("ns/a", "ns/b"):
            with log.about(pod=pod):
                pool.submit(logger.info, "so").result(30)
                list(pool.map(logger.info, ["so"]))
        pool.submit(logger.info, "so").result(30)
    assert [line.get("pod") for line in _lines(stream)] == ["ns/a", "ns/a", "ns/b", "ns/b", None]


def test_an_error_that_a_record_tells_of_says_its_class_status_and_remedy(stream: io.StringIO) -> None:
    log.set_up(as_json=True, stream=stream)
    fault = StoreUnavailableError("no answer", remedy="look at the network")
    logging.getLogger("x").warning("not stored: %s", fault)
    (line,) = _lines(stream)
    assert (line["error"], line["exit_code"]) == (StoreUnavailableError.reason, StoreUnavailableError.exit_code)
    assert line["remedy"] == "look at the network"
    assert "exception" not in line


def test_with_traces_an_error_that_is_told_of_shows_where_it_came_from(stream: io.StringIO) -> None:
    log.set_up(as_json=True, stream=stream, traces=True)
    try:
        raise StoreUnavailableError("no answer")
    except StoreUnavailableError as fault:
        logging.getLogger("x").warning("not stored: %s", fault)
    (line,) = _lines(stream)
    assert "test_log.py" in line["exception"]


@pytest.mark.parametrize("as_json", [True, False])
def test_no_secret_of_the_environment_or_of_a_url_is_logged(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    log.set_up(as_json=as_json, stream=stream)
    try:
        raise ValueError("signed with wJalrXUtnFEMI")
    except ValueError:
        logging.getLogger("x").exception(
            "asked https://me:pass@host/?X-Amz-Signature=abc with wJalrXUtnFEMI",
            extra={"store": "https://me:pass@host", "tried": [{"key": "wJalrXUtnFEMI"}]},
        )
    text = stream.getvalue()
    assert "***" in text
    assert not [secret for secret in ("wJalrXUtnFEMI", "pass@", "abc") if secret in text]
    if as_json:
        (line,) = _lines(stream)
        assert (line["store"], line["tried"]) == ("https://***@host", [{"key": "***"}])
