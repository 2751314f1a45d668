"""Logging of every process: text for people, JSON lines for collectors, and in both what a record is about.

Whoever works on a pod, a workload or a checkpoint says so once (`about`); every record within says it then, in
whatever task or thread it is made, as long as threads are begun by crikpy.aio.threads. Records carry facts in
`extra` and those of their subject, never the bytes of a job and never credentials.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final, TextIO

from crikpy.errors import CrikpyError

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_BARE = re.compile(r"[^\s\"=]+")
_SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|ACCESS_KEY|API_KEY", re.IGNORECASE)
_USER_IN_URL = re.compile(r"(://)[^\s'\"@]+@")  # rather too much than too little: a password may hold a slash
_TOKEN = re.compile(
    r"(\bBearer |\bBasic |[?&](?:X-Amz-(?:Signature|Credential|Security-Token)|token|sig)=)[^\s'\"&]+",
    re.IGNORECASE,
)
_SHORTEST_SECRET = 6

Facts = Mapping[str, object]


class Subject:
    """What the records of one act are about; it may turn out by and by."""

    def __init__(self, outer: Subject | None, source: Callable[[], Facts] | None, facts: Facts) -> None:
        self._outer = outer
        self._source = source
        self._facts = dict(facts)

    def learn(self, **facts: object) -> None:
        """Add what has turned out: also records of threads that were begun before say it from now on."""
        self._facts = {**self._facts, **facts}

    def facts(self) -> dict[str, object]:
        """Return what is known by now; what is empty is left out."""
        known = self._outer.facts() if self._outer else {}
        for facts in (self._source() if self._source else {}, self._facts):
            known |= {key: value for key, value in facts.items() if value not in (None, "")}
        return known


_process: dict[str, object] = {}
"""What every JSON record says of this process."""

_subject: ContextVar[Subject | None] = ContextVar("crikpy_log_subject", default=None)


@contextlib.contextmanager
def about(source: Callable[[], Facts] | None = None, /, **facts: object) -> Iterator[Subject]:
    """Say what all that is logged within is about, such as pod, workload and checkpoint.

    Args:
        source: asked at every record, for what may become known later.
        facts: known now; they count more than the source's, and both more than those further out.
    """
    subject = Subject(_subject.get(), source, facts)
    token = _subject.set(subject)
    try:
        yield subject
    finally:
        _subject.reset(token)


def learn(**facts: object) -> None:
    """Add to the innermost subject what has turned out; nothing happens where there is none."""
    if (subject := _subject.get()) is not None:
        subject.learn(**facts)


def subject_facts() -> dict[str, object]:
    """Return what is said here of what records are about."""
    subject = _subject.get()
    return subject.facts() if subject else {}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the process, its subject and its own facts."""

    def __init__(self, *, traces: bool = False) -> None:
        super().__init__()
        self._traces = traces

    def format(self, record: logging.LogRecord) -> str:
        """Render the record."""
        return json_line(
            record.levelname.lower(),
            record.name,
            record.getMessage(),
            {**_facts(record), **_faults(record, traces=self._traces)},
            created=record.created,
        )


class TextFormatter(logging.Formatter):
    """`crikpy: message key=value`, as tools of the command line speak; with time and level for services."""

    def __init__(self, *, timed: bool = False, traces: bool = False) -> None:
        super().__init__()
        self._timed = timed
        self._traces = traces

    def format(self, record: logging.LogRecord) -> str:
        """Render the record."""
        facts = "".join(f" {key}={_shown(value)}" for key, value in _facts(record).items())
        level = record.levelname.lower()
        if self._timed:
            head = f"{_time(record.created)} {level}: "
        else:
            head = "crikpy: " if record.levelno <= logging.INFO else f"crikpy: {level}: "
        trace = _faults(record, traces=self._traces).get("exception")
        text = f"{head}{without_secrets(record.getMessage())}{facts}"
        return f"{text}\n{trace}" if trace else text


def json_line(level: str, logger: str, message: str, facts: Facts, *, created: float | None = None) -> str:
    """Return one record as a line of JSON; facts cannot hide what every record has."""
    created = datetime.now(UTC).timestamp() if created is None else created
    head = {"time": _time(created), "level": level, "logger": logger, "message": message}
    pod = facts.get("pod")
    namespace, slash, _ = str(pod).partition("/") if pod else ("", "", "")
    placed = {"namespace": namespace} if slash else {}
    return json.dumps(_blotted({**head, **_process, **placed, **facts, **head}))


def without_secrets(text: str) -> str:
    """Return a text with credentials blotted out: those of our environment, and what looks like one in a URL."""
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and value in text and _SECRET_NAME.search(name):
            text = text.replace(value, "***")
    return _TOKEN.sub(r"\1***", _USER_IN_URL.sub(r"\1***@", text))


def _blotted(fact: object) -> object:
    """Return a fact as JSON has it, credentials blotted out of every text in it."""
    if isinstance(fact, Mapping):
        return {str(key): _blotted(value) for key, value in fact.items()}
    if isinstance(fact, list | tuple):
        return [_blotted(each) for each in fact]
    return fact if fact is None or isinstance(fact, int | float) else without_secrets(str(fact))


def set_up(
    *,
    as_json: bool,
    level: int = logging.INFO,
    stream: TextIO | None = None,
    process: Facts | None = None,
    timed: bool = False,
    traces: bool = False,
) -> None:
    """Send the whole program's log to one stream, standard error unless another is given.

    Args:
        as_json: as JSON lines, else as text.
        level: of the least important records.
        stream: where to.
        process: what every JSON record says of this process, such as its component and node.
        timed: text begins with time and level.
        traces: every error that a record tells of shows where in crikpy it came from, not defects only.
    """
    output = logging.StreamHandler(stream or sys.stderr)
    _process.clear()
    _process.update(process or {})
    output.setFormatter(JsonFormatter(traces=traces) if as_json else TextFormatter(timed=timed, traces=traces))
    output.addFilter(_add_subject)
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(level)
    for noisy in ("botocore", "boto3", "urllib3", "s3transfer"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _add_subject(record: logging.LogRecord) -> bool:
    """Put the subject into a record; what the record says by itself counts more."""
    for key, value in subject_facts().items():
        if key not in _STANDARD:
            vars(record).setdefault(key, value)
    return True


def _facts(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _faults(record: logging.LogRecord, *, traces: bool) -> dict[str, object]:
    """Return what a record's error says of itself: the one that was raised, or that the message tells of."""
    raised = record.exc_info[1] if record.exc_info else None
    told = record.args.values() if isinstance(record.args, Mapping) else record.args or ()
    fault = raised or next((each for each in told if isinstance(each, BaseException)), None)
    found: dict[str, object] = {}
    if isinstance(fault, CrikpyError):
        found = {"error": fault.reason, "exit_code": fault.exit_code}
        found |= {"remedy": fault.remedy} if fault.remedy else {}
    if fault is not None and (raised or traces):
        found["exception"] = without_secrets("".join(traceback.format_exception(fault)).rstrip("\n"))
    return found


def _shown(value: object) -> str:
    """Return a value as logfmt has it: in quotes where it could not be told from its neighbours."""
    text = without_secrets(str(value))
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _time(created: float) -> str:
    """Return a time as RFC 3339 has it, UTC."""
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
