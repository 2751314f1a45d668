"""What was said about a set goes with the member's part of it, and not before."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from crikpy.flows.forgetting import forget_sets
from crikpy.model.groups import GroupMember, Said
from crikpy.model.workload import Workload
from crikpy.settings import StoreSettings
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.layout import new_checkpoint_id
from crikpy.store.opening import open_store
from crikpy.store.records import now
from crikpy.store.sets import GroupSets, SetRecord
from tests.store.images import manifest_of

OURS = Workload(cluster="c", namespace="n", name="sts-a.main")
LATER = datetime.now(UTC) + timedelta(days=2)


def test_sets_without_our_part_are_forgotten_after_a_day_and_those_of_others_are_not(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), StoreSettings())
    store.check()
    sets = GroupSets(store, cluster="c", namespace="n", group="g")
    ours = GroupMember(pod="a", pod_uid="a", node="n", workload="sts-a")
    other = GroupMember(pod="b", pod_uid="b", node="n", workload="sts-b")
    for set_id, members in (("held", (ours, other)), ("gone", (ours, other)), ("foreign", (other,))):
        sets.of(set_id).describe(SetRecord(group="g", members=members, moves=True, time=now()))
        sets.of(set_id).say(Said.STORED, "b")
    manifest = manifest_of(OURS, new_checkpoint_id(), ())
    Checkpoints(store, OURS).commit(replace(manifest, origin=replace(manifest.origin, group="g", set="held")))
    assert forget_sets(store, [OURS], "g", "sts-a") == 0, "it may be under way"
    assert forget_sets(store, [OURS], "g", "sts-a", now=LATER) == 1
    assert sorted(sets.ids()) == ["foreign", "held"]
    assert not list(store.list(f"{sets.folder}/sets/gone/"))
