"""What a workload of the matrix is: a program that nobody here wrote, and how one sees that a move did it no harm.

Descriptions only; trying.py starts them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """What came of a workload."""

    EXACT = "resumed bit-exactly"
    VERIFIED = "resumed, data verified"
    REFUSED = "refused before the notice"
    UNSAVED = "could not be saved, runs on"
    LOST = "could not be resumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a workload has printed, to its standard output.

    Attributes:
        plain: of a run that nobody interrupted; empty where there was none.
        first: in the container in which it began.
        second: in the container in which it was resumed.
        before: what the client saw before the move; empty where there is none.
        after: what the client saw after it.
    """

    plain: str = ""
    first: str = ""
    second: str = ""
    before: str = ""
    after: str = ""

    @property
    def moved(self) -> str:
        """Everything that the moved one printed."""
        return self.first + self.second


@dataclass(frozen=True, slots=True)
class Check:
    """Judges what was seen.

    Attributes:
        fault: returns what is wrong, in a few words, or nothing.
        verdict: what may be said when nothing is.
    """

    fault: Callable[[Seen], str]
    verdict: Verdict = Verdict.VERIFIED

    @property
    def compares(self) -> bool:
        """Whether it needs a run that nobody interrupted."""
        return self.verdict is Verdict.EXACT

    def __and__(self, other: Check) -> Check:
        """Demand both; the verdict is this one's."""
        return Check(lambda seen: "; ".join(filter(None, (self.fault(seen), other.fault(seen)))), self.verdict)


def _same_output(seen: Seen) -> str:
    return "" if seen.moved == seen.plain else "it printed something else than the run that nobody interrupted"


SAME_OUTPUT = Check(_same_output, Verdict.EXACT)
"""Everything that it printed is what a run printed that nobody interrupted, byte by byte."""


def same(pattern: str) -> Check:
    """Compare what a pattern finds in both outputs, in order; it must find something."""
    wanted = re.compile(pattern, re.MULTILINE)

    def fault(seen: Seen) -> str:
        expected, found = wanted.findall(seen.plain), wanted.findall(seen.moved)
        if not expected:
            return f"the run that nobody interrupted never printed {pattern}"
        return "" if found == expected else f"{found[-1:]} instead of {expected[-1:]}"

    return Check(fault, Verdict.EXACT)


def printed(pattern: str) -> Check:
    """See that what was printed after the move matches a pattern somewhere."""
    wanted = re.compile(pattern, re.MULTILINE)
    return Check(lambda seen: "" if wanted.search(seen.second) else f"it never printed {pattern} after the move")


def client_saw(pattern: str) -> Check:
    """See that what the client saw after the move matches a pattern somewhere."""
    wanted = re.compile(pattern, re.MULTILINE)
    return Check(
        lambda seen: "" if wanted.search(seen.after) else f"the client did not see {pattern}: {seen.after}"
    )


CLIENT_SAW_THE_SAME = Check(
    lambda seen: "" if seen.before and seen.after == seen.before else "the client saw something else than before"
)
"""What the client saw after the move is what it saw before it, byte by byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One program, saved in the middle of its work and resumed in another container.

    Attributes:
        name: unique; what `hack/bench workloads NAME` takes.
        program: its name in the table; its version is put behind it.
        does: what it does meanwhile, in a few words.
        packages: Debian packages beyond the slim base; the first tells the version.
        python: requirements as pip takes them, for a Python environment at /opt/frameworks; the first tells the
            version. Workloads with the same requirements share one environment.
        versioned: the package or requirement whose version is shown, if it is not the first one.
        words: the command line inside the container; /opt/programs/FILE in it is FILE of hack/bench.d/programs.
        environment: variables beyond PATH, HOME=/tmp and LANG=C.UTF-8.
        files: further files inside, by their paths; executable, too.
        progress: regular expression, searched in what it prints to either stream; once found it is in mid-work.
        settle_s: seconds from then to the move.
        before: a client's command line, run just before the move inside the container's namespaces, but for PIDs.
        after: the same, after it, in the new container.
        ends: whether it ends by itself, with status 0.
        check: says what is wrong with what was seen.
        expected: what is known to come of it, if not the best that its check can say.
        allowed: system calls that its container's seccomp filter lets through although RuntimeDefault's would not.
        uid: user that it runs as.
        timeout_s: the longest that any one run of it may take.
        note: what limits the claim, a sentence for the page; may be empty.
    """

    name: str
    program: str
    does: str
    words: tuple[str, ...]
    progress: str
    settle_s: float = 0.0
    packages: tuple[str, ...] = ()
    python: tuple[str, ...] = ()
    versioned: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    ends: bool = True
    check: Check = SAME_OUTPUT
    expected: Verdict | None = None
    allowed: tuple[str, ...] = ()
    uid: int = 0
    timeout_s: float = 120.0
    note: str = ""

    @property
    def awaited(self) -> Verdict:
        """What is known to come of it."""
        return self.expected or self.check.verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A chapter of the page.

    Attributes:
        title: its heading.
        workloads: in the order to be shown.
    """

    title: str
    workloads: tuple[Workload, ...]
