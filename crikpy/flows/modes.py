"""Which way jobs are saved: by CRIU, or by themselves, as they want it, and the second where the first cannot be.

What each of them does is told in crikpy.flows.saving and crikpy.flows.selfsaving.
"""

from __future__ import annotations

from collections.abc import Sequence

from crikpy.errors import (
    CrikpyError,
    DumpError,
    FilesystemError,
    GpuError,
    GpuStateLostError,
    UnsupportedJobError,
)
from crikpy.flows import saving, selfsaving
from crikpy.flows.company import Company
from crikpy.flows.members import CheckpointOrder, Gate, Member
from crikpy.flows.reporting import Reporter
from crikpy.flows.saving import Saved
from crikpy.model.saving import Mode
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore

_LEAST_S = 5.0
"""With less time than this no job is asked to save itself after CRIU has failed."""


def save(
    members: Sequence[Member],
    store: ObjectStore,
    order: CheckpointOrder,
    settings: Settings,
    reporter: Reporter,
    *,
    gate: Gate | None = None,
    company: Company | None = None,
) -> Saved:
    """Save jobs together in the way that they want; arguments, events and result as in crikpy.flows.saving.save.

    Tells the reporter `saves-itself` where jobs are asked for it after CRIU has refused or failed.

    Raises:
        CrikpyError: as both ways have it.
    """
    modes = {member.saving.mode for member in members}
    if modes == {Mode.APPLICATION}:
        return selfsaving.save_themselves(members, store, order, settings, reporter, gate=gate, company=company)
    try:
        return saving.save(members, store, order, settings, reporter, gate=gate, company=company)
    except (UnsupportedJobError, DumpError, FilesystemError, GpuError) as fault:
        # Others of a group have been told by now that they wait in vain.
        in_company = company is not None and not company.alone
        if modes != {Mode.AUTO} or in_company or not _may_still(members, order, fault):
            raise
        reporter.event("saves-itself", f"CRIU cannot save the job, which is asked to do so itself: {fault}")
        try:
            return selfsaving.save_themselves(members, store, order, settings, reporter, gate=gate)
        except UnsupportedJobError as other:
            raise UnsupportedJobError(f"{fault.message}; and {other.message}", detail=fault.detail) from fault


def _may_still(members: Sequence[Member], order: CheckpointOrder, fault: CrikpyError) -> bool:
    return (
        not fault.retryable
        and not isinstance(fault, GpuStateLostError)
        and order.deadline.remaining() > _LEAST_S
        and all(member.saving.application_directories for member in members)
    )
