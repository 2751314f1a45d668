"""What each exit status means, out of the tree of errors; `crikpy help exit-statuses` and docs/ print it.

Knows the standard library alone, so that hack/exit-statuses-doc works before anything is installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crikpy import errors, names
from crikpy.errors import CrikpyError


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One exit status.

    Attributes:
        code: the number.
        reason: the word that `--output json` calls `error`; empty for what is no error.
        meaning: one sentence without its full stop.
        retryable: whether the same command may succeed when tried again.
    """

    code: int
    reason: str
    meaning: str
    retryable: bool = False


_OTHERS = (
    Status(code=0, reason="", meaning="It was done; of `run` and `restore`, the job ended with 0"),
    Status(
        code=names.EXIT_CHECKPOINTED,
        reason="",
        meaning="Of `run` and `restore`: the job was saved, and the same command line resumes it",
        retryable=True,
    ),
    Status(code=126, reason="", meaning="Of `run`: the job's command cannot be executed"),
    Status(code=127, reason="", meaning="Of `run`: the job's command does not exist"),
    Status(code=130, reason="", meaning="Ended by Ctrl-C; with --watch that is no failure and gives 0"),
    Status(code=141, reason="", meaning="Whoever read the output has closed the pipe"),
)
_UNEXPECTED = Status(
    code=CrikpyError.exit_code,
    reason=CrikpyError.reason,
    meaning="Something that crikpy did not foresee, so a defect of it; `crikpy --debug` tells where",
)


def statuses() -> list[Status]:
    """Return every exit status that crikpy itself gives, in order."""
    found = [*_OTHERS, _UNEXPECTED, *(_of(kind) for kind in _kinds(CrikpyError))]
    return sorted(found, key=lambda status: status.code)


def _kinds(parent: type[CrikpyError]) -> Iterator[type[CrikpyError]]:
    for kind in parent.__subclasses__():
        if kind.__module__.startswith(errors.__name__):
            yield kind
            yield from _kinds(kind)


def _of(kind: type[CrikpyError]) -> Status:
    first, _, _ = (kind.__doc__ or "").strip().partition("\n\n")
    meaning = " ".join(first.split()).rstrip(".")
    return Status(code=kind.exit_code, reason=kind.reason, meaning=meaning, retryable=kind.retryable)
