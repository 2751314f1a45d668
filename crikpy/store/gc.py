"""Removes chunks that no manifest refers to, and what is left of checkpoints that were never completed.

Rules that keep it from ever taking a chunk that somebody needs:

1. A chunk that any present manifest refers to stays; the manifests are looked at again before each few deletions.
2. While a checkpoint of the workload is being written, nothing is removed. Its writer announces it
   (Checkpoints.begin) before it reads which chunks exist, and we say that we remove before we look for
   announcements, so that one of us sees the other (collecting.py). Either we stop; or the writer, who relies only
   on manifests that we see too, makes sure before the commit that nothing was removed which it stored anew.
3. What is younger than a day stays, by the store's times and this machine's clock. A shorter age may be asked
   for, but for chunks alone: when a checkpoint counts as being written no longer is not for anybody to choose.
4. A manifest that cannot be read stops the removal: what it refers to is unknown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from crikpy import names
from crikpy.aio.clock import Deadline
from crikpy.aio.threads import Pool
from crikpy.errors import CheckpointNotFoundError
from crikpy.model.workload import Workload
from crikpy.store import collecting, layout
from crikpy.store.base import ObjectInfo, ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.trusting import chunks_of

DEFAULT_AGE: Final = timedelta(hours=24)
_BATCH: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class GcPlan:
    """What would be removed of one workload.

    Attributes:
        workload: whose it is.
        chunks: chunks that nothing refers to.
        incomplete: ids of checkpoints without a manifest.
        writing: ids of checkpoints that are being written; then nothing is removed.
        min_age: how old a chunk must be; what is left of a checkpoint must be a day old besides.
    """

    workload: Workload
    chunks: tuple[ObjectInfo, ...]
    incomplete: tuple[str, ...]
    writing: tuple[str, ...]
    min_age: timedelta

    @property
    def chunk_bytes(self) -> int:
        """Bytes of the chunks in the store."""
        return sum(chunk.size for chunk in self.chunks)


@dataclass(frozen=True, slots=True, kw_only=True)
class GcOutcome:
    """What was removed; less than planned when a checkpoint was begun meanwhile.

    Attributes:
        chunks: number of chunks.
        chunk_bytes: their bytes in the store.
        incomplete: number of checkpoints without a manifest.
        interrupted: whether a new checkpoint ended the removal early.
    """

    chunks: int
    chunk_bytes: int
    incomplete: int
    interrupted: bool


def plan_gc(store: ObjectStore, workload: Workload, *, min_age: timedelta = DEFAULT_AGE) -> GcPlan:
    """Find out what can be removed; nothing is.

    Raises:
        IntegrityError: a manifest is damaged; nothing is removed before that checkpoint is.
        FormatVersionError: a newer release wrote a manifest.
    """
    edge = datetime.now(UTC) - min_age
    chunks = [info for info in store.list(layout.chunks_prefix(workload)) if info.modified < edge]
    view = _look(store, workload, min_age)
    kept = _Kept(store, workload)
    return GcPlan(
        workload=workload,
        chunks=tuple(sorted(kept.unreferenced(chunks, view.complete), key=lambda info: info.key)),
        incomplete=tuple(sorted(view.abandoned)),
        writing=tuple(sorted(view.writing)),
        min_age=min_age,
    )


def apply_gc(
    store: ObjectStore, plan: GcPlan, *, on_progress: Callable[[GcOutcome], None] | None = None
) -> GcOutcome:
    """Remove what was planned, as far as it still may be removed; the same errors as plan_gc."""
    workload = plan.workload
    kept = _Kept(store, workload)
    outcome = GcOutcome(chunks=0, chunk_bytes=0, incomplete=0, interrupted=False)
    with Pool(_BATCH) as deleting, _said(store, workload) as say_so:
        for start in range(0, len(plan.chunks), _BATCH):
            say_so()
            view = _look(store, workload, plan.min_age)
            if view.writing:
                return _add(outcome, interrupted=True)
            batch = kept.unreferenced(plan.chunks[start : start + _BATCH], view.complete)
            remove = partial(_remove, store, Deadline.after(collecting.LOOK_GOOD_S))
            outcome = _add(outcome, [chunk for chunk in deleting.map(remove, batch) if chunk is not None])
            if on_progress is not None:
                on_progress(outcome)
    for checkpoint in plan.incomplete:
        if checkpoint in _look(store, workload, plan.min_age).abandoned:
            Checkpoints(store, workload).remove(checkpoint)
            outcome = _add(outcome, incomplete=1)
    return outcome


def _remove(store: ObjectStore, look: Deadline, chunk: ObjectInfo) -> ObjectInfo | None:
    """Remove a chunk as long as the look for announcements is not too long ago; return it if it was removed."""
    if look.expired():
        return None
    store.delete(chunk.key)
    return chunk


@contextlib.contextmanager
def _said(store: ObjectStore, workload: Workload) -> Iterator[Callable[[], None]]:
    """Lend what says that we remove; in the end say that it is over, if it ever was said."""
    said = False

    def say_so() -> None:
        nonlocal said
        said = True
        collecting.say_so(store, workload)

    try:
        yield say_so
    finally:
        if said:
            collecting.say_no_more(store, workload)


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """The checkpoints of a workload at one moment, by what they are."""

    complete: frozenset[str]
    writing: frozenset[str]
    abandoned: frozenset[str]


def _look(store: ObjectStore, workload: Workload, min_age: timedelta) -> _View:
    edge = datetime.now(UTC) - max(min_age, DEFAULT_AGE)
    prefix = layout.checkpoints_prefix(workload)
    complete: set[str] = set()
    newest: dict[str, datetime] = {}
    for info in store.list(prefix):
        checkpoint, _, name = info.key.removeprefix(prefix).partition("/")
        if not layout.is_checkpoint_id(checkpoint):
            continue
        newest[checkpoint] = max(info.modified, newest.get(checkpoint, info.modified))
        if name == names.MANIFEST:
            complete.add(checkpoint)
    rest = newest.keys() - complete
    writing = {checkpoint for checkpoint in rest if newest[checkpoint] >= edge}
    return _View(complete=frozenset(complete), writing=frozenset(writing), abandoned=frozenset(rest - writing))


class _Kept:
    """The chunks that manifests refer to; each manifest is read once, since it never changes."""

    def __init__(self, store: ObjectStore, workload: Workload) -> None:
        self._checkpoints = Checkpoints(store, workload)
        self._chunks: dict[str, frozenset[str]] = {}

    def unreferenced(
        self, chunks: list[ObjectInfo] | tuple[ObjectInfo, ...], complete: frozenset[str]
    ) -> list[ObjectInfo]:
        """Return those of the chunks that no manifest refers to."""
        for checkpoint in complete - self._chunks.keys():
            try:
                self._chunks[checkpoint] = chunks_of(self._checkpoints.manifest(checkpoint))
            except CheckpointNotFoundError:
                self._chunks[checkpoint] = frozenset()  # removed since it was listed; no id comes twice
        referenced = frozenset[str]().union(*self._chunks.values())
        return [chunk for chunk in chunks if chunk.key.rpartition("/")[2] not in referenced]


def _add(
    outcome: GcOutcome, batch: list[ObjectInfo] | None = None, *, incomplete: int = 0, interrupted: bool = False
) -> GcOutcome:
    removed = batch or []
    return GcOutcome(
        chunks=outcome.chunks + len(removed),
        chunk_bytes=outcome.chunk_bytes + sum(chunk.size for chunk in removed),
        incomplete=outcome.incomplete + incomplete,
        interrupted=outcome.interrupted or interrupted,
    )
