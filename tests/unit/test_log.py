"""The log: one line of JSON for collectors, one plain line for people, the facts of a record in both."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy import log


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
