"""What saving the jobs of this machine would cost: by /proc, their records, and what their stores hold of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from crikpy.agent.checking import refusals
from crikpy.agent.sizing import Past, estimate, held_bytes
from crikpy.aio.clock import Deadline
from crikpy.capsule import entering
from crikpy.capsule.launcher import LauncherConnection
from crikpy.capsule.places import JobPlace, RunningHere, recorded
from crikpy.cli.costs import Cost, assumed_rates, listing, seconds_of
from crikpy.cli.watching import Listing
from crikpy.errors import CrikpyError, NoSuchJobError
from crikpy.settings import Settings
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.opening import open_store

_ANSWER_S = 5.0


def jobs_here(settings: Settings, name: str) -> Listing:
    """Look at the jobs that `crikpy run` runs here, or at those of one name."""
    costs = [_cost(settings, here) for here in _running(settings) if not name or here.workload.name == name]
    return listing(costs, empty="no job runs here; for those of a cluster: crikpy top pods")


def _running(settings: Settings) -> Iterator[RunningHere]:
    for workload in recorded(settings.run):
        with contextlib.suppress(NoSuchJobError):  # it has just ended
            yield JobPlace(settings.run, workload).find()


def _cost(settings: Settings, here: RunningHere) -> Cost:
    launcher = here.capsule.launcher_pid
    held = held_bytes([launcher])
    past, unknown = _past(settings, here)
    size = estimate(held, past, time.monotonic())
    why = _refusals(settings, here)
    return Cost(
        job=here.workload.name,
        memory_bytes=held,
        processes=max(0, len(entering.members(launcher)) - 1),
        stored_bytes=size.memory - size.new,
        write_bytes=size.new,
        seconds=seconds_of(size, assumed_rates(settings)),
        last_s=(datetime.now(UTC) - past.completed).total_seconds() if past else None,
        able=not why,
        why=why or unknown,
    )


def _refusals(settings: Settings, here: RunningHere) -> str:
    try:
        with LauncherConnection(here.capsule.socket, Deadline.after(_ANSWER_S)) as launcher:
            job = launcher.status(Deadline.after(_ANSWER_S)).job_pid
        return "; ".join(refusals(here.capsule.launcher_pid, job, settings))
    except CrikpyError as fault:
        return fault.message


def _past(settings: Settings, here: RunningHere) -> tuple[Past | None, str]:
    """Return the last checkpoint in the job's store, and what kept us from knowing it."""
    try:
        with contextlib.closing(open_store(here.store_url, settings.store)) as store:
            found = [one for one in Checkpoints(store, here.workload).list() if one.sizes and not one.fault]
    except CrikpyError as fault:
        return None, f"its store could not be asked: {fault.message}"
    if not found or not found[0].sizes:
        return None, ""
    sizes = found[0].sizes
    times = [datetime.fromisoformat(one.created) for one in found[:2]]
    past = Past(
        completed=times[0],
        at=time.monotonic() - (datetime.now(UTC) - times[0]).total_seconds(),
        memory=sizes.image_bytes,
        new=sizes.image_bytes - sizes.zero_bytes - sizes.reused_bytes,
        held=sizes.image_bytes,
        since_s=(times[0] - times[1]).total_seconds() if len(times) > 1 else None,
    )
    return past, ""
