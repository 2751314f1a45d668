"""What becomes of a save that failed: the jobs run on first, then the store is put in order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from crikpy.errors import CrikpyError, GpuStateLostError
from crikpy.flows import devices
from crikpy.flows.dumping import Dump
from crikpy.flows.hooks import Hooks, Outcome
from crikpy.flows.reporting import Reporter


@contextlib.contextmanager
def let_go_on_failure(dumps: Sequence[Dump], hooks: Hooks, reporter: Reporter) -> Iterator[None]:
    """Have all jobs run on, and nothing count that stands, when what is done within fails."""
    try:
        yield
    except BaseException as fault:
        lost = undo(dumps, hooks, reporter, f"saving failed: {fault}")
        if lost is not None and isinstance(fault, CrikpyError):
            text = f"{fault.message}; {lost.message}"
            raise GpuStateLostError(text, remedy=lost.remedy, detail=fault.detail) from fault
        raise


def undo(dumps: Sequence[Dump], hooks: Hooks, reporter: Reporter, reason: str) -> GpuStateLostError | None:
    """Have all jobs run on first, then put the store in order, which may take its time; return what was lost."""
    lost = let_go(dumps, reporter)
    if any(dump.stopped for dump in dumps):
        reporter.event("released", "the checkpoint failed; the job runs on")
    hooks.after(Outcome.FAILED)
    for dump in dumps:
        dump.withdraw(reason)
    return lost


def let_go(dumps: Sequence[Dump], reporter: Reporter) -> GpuStateLostError | None:
    """Have all jobs run on before any launcher is waited for; return what they have lost."""
    for dump in dumps:
        dump.let_go()
    lost = give_back(dumps, reporter)
    for dump in dumps:
        dump.release()
    return lost


def give_back(dumps: Sequence[Dump], reporter: Reporter) -> GpuStateLostError | None:
    """Give jobs that were let go their GPUs back, if any were taken; tell and return what could not be."""
    try:
        devices.give_back([dump.devices for dump in dumps])
    except GpuStateLostError as lost:
        reporter.event("gpu-lost", str(lost))
        return lost
    return None
