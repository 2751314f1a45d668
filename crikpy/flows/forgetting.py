"""Removes what the members of a group have said about sets that nobody can resume any more.

A set counts only as long as every member's checkpoint stands. So whoever has none of it any more may remove what
was said about it, and nobody has to know of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from crikpy.errors import IntegrityError
from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.sets import GroupSets, SetRecord

_REST: Final = timedelta(days=1)
"""How long what was said stays in any case: longer than any save takes."""


def forget_sets(
    store: ObjectStore, workloads: Sequence[Workload], group: str, member: str, *, now: datetime | None = None
) -> int:
    """Remove the sets of a member's group, a day old or older, of which it has no checkpoint any more.

    Args:
        store: where they are.
        workloads: those of the member's containers.
        group: the group's name.
        member: name under which the member's checkpoints are kept, as the sets have it.
        now: aware; the time by our clock if left out.

    Returns:
        How many were removed.

    Raises:
        StoreError: some may be left; it may be done again.
    """
    first = workloads[0]
    sets = GroupSets(store, cluster=first.cluster, namespace=first.namespace, group=group)
    held = {found.set for workload in workloads for found in Checkpoints(store, workload).list() if found.complete}
    before = (now or datetime.now(UTC)) - _REST
    forgotten = 0
    for set_id in sets.ids():
        talk = sets.of(set_id)
        try:
            record = None if set_id in held else talk.record()
        except IntegrityError:
            continue
        if record is not None and _is_of(record, member) and _is_older(record, before):
            talk.remove()
            forgotten += 1
    return forgotten


def _is_of(record: SetRecord, member: str) -> bool:
    return any(one.workload == member for one in record.members)


def _is_older(record: SetRecord, before: datetime) -> bool:
    try:
        return datetime.fromisoformat(record.time) < before
    except (ValueError, TypeError):
        return False  # a time that cannot be read, or without a zone
