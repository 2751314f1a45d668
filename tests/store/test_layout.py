"""Keys: what lies where, and which names can be part of one."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.errors import UsageError
from crikpy.model.workload import Workload
from crikpy.store import layout

ID = "20250131T120000Z-0123abcd"
HASH = "ab" * 32


def test_the_keys_are_those_of_the_format(workload: Workload) -> None:
    assert layout.chunk_key(workload, HASH) == f"plain/default/train/chunks/ab/{HASH}"
    assert layout.manifest_key(workload, ID) == f"plain/default/train/checkpoints/{ID}/manifest.json"
    assert layout.claim_key(workload, ID) == f"plain/default/train/checkpoints/{ID}/claim.json"
    assert layout.quarantine_key(workload, ID) == f"plain/default/train/checkpoints/{ID}/quarantine.json"
    assert layout.started_key(workload, ID) == f"plain/default/train/checkpoints/{ID}/started.json"
    assert layout.holder_key(workload) == "plain/default/train/holder.json"


@pytest.mark.parametrize("name", ["a/b", "../b", "..", ".", ".hidden", "", "a b", "a\0", "ä", "x" * 254, "a\n"])
def test_names_that_could_lead_elsewhere_are_refused_with_what_is_allowed(name: str) -> None:
    for part in ("cluster", "namespace", "name"):
        parts = {"cluster": "c", "namespace": "n", "name": "w", part: name}
        with pytest.raises(UsageError, match=rf"{part} .*1 to 253 letters, digits"):
            layout.parse_workload(**parts)


@pytest.mark.parametrize("name", ["a", "train-1", "My_Job.v2", "x" * 253, "a..b", "-a"])
def test_ordinary_names_are_accepted(name: str) -> None:
    assert str(layout.parse_workload(cluster="c", namespace="n", name=name)) == f"c/n/{name}"


def test_a_workload_cannot_be_changed_into_a_bad_one(workload: Workload) -> None:
    with pytest.raises(ValueError, match="name"):
        dataclasses.replace(workload, name="../other")


def test_an_id_is_the_time_and_a_random_end() -> None:
    moment = datetime(2025, 1, 31, 12, 0, 0, tzinfo=UTC)
    made = layout.new_checkpoint_id(moment)
    assert made.startswith("20250131T120000Z-")
    assert layout.is_checkpoint_id(made)
    assert made != layout.new_checkpoint_id(moment)
    assert layout.is_checkpoint_id(layout.new_checkpoint_id())


@given(st.integers(0, 4_000_000_000_000), st.integers(0, 4_000_000_000_000))
def test_later_ids_sort_after_earlier_ones_by_the_millisecond(one: int, other: int) -> None:
    first, second = (datetime.fromtimestamp(moment / 1000, UTC) for moment in sorted((one, other)))
    earlier, later = layout.new_checkpoint_id(first), layout.new_checkpoint_id(second)
    assert one == other or earlier < later


@pytest.mark.parametrize("text", ["", "..", "20250131", f"{ID}/x", ID.upper(), f"x{ID}"])
def test_what_is_no_id_makes_no_key(text: str, workload: Workload) -> None:
    with pytest.raises(UsageError, match="id of a checkpoint"):
        layout.manifest_key(workload, text)


@given(st.integers(0, 4_000_000_000_000))
def test_an_id_tells_when_it_was_made(millisecond: int) -> None:
    moment = datetime.fromtimestamp(millisecond / 1000, UTC)
    assert timedelta(0) <= moment - layout.time_of(layout.new_checkpoint_id(moment)) <= timedelta(microseconds=17)
