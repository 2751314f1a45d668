"""What `crikpy check` finds out about a node, one line a finding."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a finding bears on saving jobs."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: short lower-case name, unique in a report.
        verdict: FAILED means that this node cannot save jobs.
        fact: what was found.
        remedy: what to do about it; empty when the verdict is OK.
    """

    name: str
    verdict: Verdict
    fact: str
    remedy: str = ""
