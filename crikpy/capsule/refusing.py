"""Says whether a job could be saved as it is now, from all that can be seen without touching it.

Agents ask now and then while a job runs, and every save asks before it stops anything; so both say the same.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from crikpy.capsule import preflight, surveying, systemv
from crikpy.capsule.holding import Process
from crikpy.capsule.preflight import Survey
from crikpy.capsule.trees import JobTree


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen of a running job.

    Attributes:
        survey: its processes.
        refusals: why it could not be saved, a sentence each; empty when it may.
    """

    survey: Survey
    refusals: tuple[str, ...]


def look(tree: JobTree, launcher: Process, inhabitants: Collection[int], *, ghost_limit_bytes: int) -> Look:
    """Look at a job.

    Args:
        tree: its processes.
        launcher: its capsule's launcher.
        inhabitants: all processes of the capsule, as this process sees them.
        ghost_limit_bytes: what a file may take up that was deleted while open.

    Raises:
        NoSuchJobError, CapsuleError: it has ended.
    """
    survey = surveying.survey(tree.members)
    fate = systemv.fate_of(tree.members[0], launcher, inhabitants, attached=survey.attaches_system_v)
    reasons = [*preflight.refusals(survey.views, ghost_limit_bytes=ghost_limit_bytes)]
    if fate.refusal:
        reasons.append(fate.refusal)
    if tree.strays:
        reasons.append(f"{len(tree.strays)} of its processes left its tree: their parents ended before them")
    return Look(survey=survey, refusals=tuple(reasons))
