"""Says whether a job could be saved as it is now, from all that can be seen without touching it.

Agents ask now and then while a job runs, and every save asks before it stops anything; so both say the same.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from crikpy.aio.clock import Deadline
from crikpy.capsule import preflight, socketkinds, surveying, systemv, watches
from crikpy.capsule.holding import Process
from crikpy.capsule.mounts import read_mounts
from crikpy.capsule.preflight import Survey
from crikpy.capsule.trees import JobTree
from crikpy.errors import CapsuleError

_SEARCH_S = 15.0
"""How long names of what is watched are sought; a disk that is asked for a million of them may take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen of a running job.

    Attributes:
        survey: its processes.
        refusals: why it could not be saved, a sentence each; empty when it may.
        watched: names of what it watches which CRIU has to be told.
    """

    survey: Survey
    refusals: tuple[str, ...]
    watched: tuple[str, ...] = ()


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
    reasons += _out_of_reach(survey, launcher)
    if tree.nested:
        reasons.append(preflight.of_a_sandbox(f"it runs {len(tree.nested)} processes", ("PID",)))
    if fate.refusal:
        reasons.append(fate.refusal)
    if tree.strays:
        reasons.append(f"{len(tree.strays)} of its processes left its tree: their parents ended before them")
    watched, nameless = names_of_watched(survey, launcher, (), within_s=_SEARCH_S)
    if nameless:
        reasons.append(nameless)
    return Look(survey=survey, refusals=tuple(reasons), watched=watched)


def names_of_watched(
    survey: Survey, launcher: Process, known: Collection[str], *, within_s: float
) -> tuple[tuple[str, ...], str]:
    """Return the names of what a job watches that CRIU has to be told, and why it cannot be saved, or nothing.

    Args:
        survey: the job's processes.
        launcher: its capsule's launcher.
        known: names of what it watched before.
        within_s: how long they are sought.

    Raises:
        CapsuleError: it has ended.
    """
    if not survey.watched or not (unnamed := watches.unnamed(survey.watched, read_mounts(launcher))):
        return (), ""
    likely = (*known, *(file.path for file in survey.files), *survey.written)
    try:
        names = watches.find_names(launcher, unnamed, likely, Deadline.after(within_s))
    except OSError as fault:
        raise CapsuleError(f"process {launcher} is gone") from fault
    refusal = ""
    if missing := len(unnamed) - len(names):
        refusal = (
            f"it watches {missing} files or directories by inotify whose names cannot be found: have it watch "
            "what lies in a volume, or look for changes now and then instead"
        )
    return watches.topmost(names.values()), refusal


def _out_of_reach(survey: Survey, launcher: Process) -> list[str]:
    owners: dict[int, str] = {}
    for view in survey.views:
        for found in view.descriptors:
            if found.protocol == "UNIX":
                owners.setdefault(int(found.target[8:-1]), f"{view.fact.command} (PID {view.fact.pid})")
    return [
        f"{owners[inode]} sends datagrams by a Unix socket to a service outside of its pod, which CRIU"
        " cannot save: have it send them by UDP, or connect anew for each"
        for inode in socketkinds.out_of_reach(owners, launcher)
    ]
