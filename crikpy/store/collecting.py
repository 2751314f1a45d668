"""How who removes chunks and who writes a checkpoint see each other. docs/formats.md, "Order of writing".

Each says what it does before it looks whether the other does: who writes announces the checkpoint and then looks
for a collection, who collects says so and then looks for announcements. So at least one of them sees the other.
Who collects stops then, at the latest LOOK_GOOD_S after its last look. Who writes goes on, since a job may wait,
and sees before the commit that nothing of what it refers to was removed meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from crikpy.aio.clock import Deadline
from crikpy.errors import StoreUnavailableError
from crikpy.model.workload import Workload
from crikpy.store import layout
from crikpy.store.base import ObjectStore
from crikpy.store.records import Claim

_FORGOTTEN_AFTER: Final = timedelta(minutes=15)
"""A collection says that it goes on before each few removals; who has not done so for so long was killed."""

LOOK_GOOD_S: Final = 3.0
"""How long after a look for announcements chunks may be removed."""

_PATIENCE_S: Final = LOOK_GOOD_S + 2.0
_LOOK_EVERY_S: Final = 0.1


def say_so(store: ObjectStore, workload: Workload) -> None:
    """Say that chunks of a workload are being removed, or still are."""
    store.put(layout.collecting_key(workload), msgspec.json.encode(Claim.ours()))


def say_no_more(store: ObjectStore, workload: Workload) -> None:
    """Say that it is over."""
    store.delete(layout.collecting_key(workload))


def is_under_way(store: ObjectStore, workload: Workload) -> bool:
    """Say whether somebody removes chunks of a workload."""
    key, now = layout.collecting_key(workload), datetime.now(UTC)
    return any(info.key == key and now - info.modified < _FORGOTTEN_AFTER for info in store.list(key))


def require_chunks(store: ObjectStore, workload: Workload, chunks: Collection[str]) -> None:
    """See that chunks are there though somebody was removing others while they were written.

    Whoever does has stopped by now, or does so after the next few removals: that is waited for, but not for ever.

    Raises:
        StoreUnavailableError: some are gone; the checkpoint has to be written once more.
    """
    patience = Deadline.after(_PATIENCE_S)
    while is_under_way(store, workload) and not patience.expired():
        time.sleep(_LOOK_EVERY_S)
    there = {info.key.rpartition("/")[2] for info in store.list(layout.chunks_prefix(workload))}
    if missing := set(chunks) - there:
        raise StoreUnavailableError(f"{len(missing)} chunks were collected while the checkpoint was written")
