"""Checkpoint objects survive the way to the API server and back, and their conditions say what is true."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy import names
from crikpy.errors import KubeInvalidError
from crikpy.kube.orders import parse_order, render_order, render_status
from crikpy.model.notices import Trigger
from crikpy.model.orders import Order, OrderBytes, OrderPhase, OrderSpec, OrderStatus
from crikpy.model.quantities import human_size

NOW = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)

_NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
_TIMES = st.timedeltas(timedelta(days=-3650), timedelta(days=3650)).map(lambda ago: NOW - ago)
_SECONDS = st.none() | st.integers(0, 10**7).map(lambda milliseconds: milliseconds / 1000)
_SIZES = st.integers(0, 2**62)

_SPECS = st.builds(
    OrderSpec,
    pod=_NAMES,
    pod_uid=_NAMES,
    node=_NAMES,
    containers=st.lists(_NAMES, min_size=1, unique=True).map(tuple),
    workload=_NAMES,
    trigger=st.sampled_from(Trigger),
    notice=st.just("") | _NAMES,
    deadline=st.none() | _TIMES,
    leave_running=st.booleans(),
)
_STATUSES = st.builds(
    OrderStatus,
    phase=st.sampled_from(OrderPhase),
    started=st.none() | _TIMES,
    completed=st.none() | _TIMES,
    bytes=st.builds(OrderBytes, memory=_SIZES, stored=_SIZES, reused=_SIZES),
    frozen_s=_SECONDS,
    total_s=_SECONDS,
    checkpoint=st.text(max_size=20),
    location=st.text(max_size=20),
    reason=st.just("") | st.just("DumpFailed"),
    message=st.text(max_size=1024),
    restored_by=st.text(max_size=20),
)
_ORDERS = st.builds(
    Order, namespace=_NAMES, name=_NAMES, pod_started=st.none() | _TIMES, spec=_SPECS, status=_STATUSES
)


@given(order=_ORDERS)
def test_an_order_survives_being_written_and_read(order: Order) -> None:
    raw = render_order(order) | {"status": render_status(order.status, [], NOW)}
    assert parse_order(raw) == order


def test_since_when_a_job_goes_on_is_read_of_the_condition() -> None:
    def read(phase: OrderPhase, before: list[dict[str, Any]], when: datetime) -> dict[str, Any]:
        status = OrderStatus(phase=phase, checkpoint="c", restored_by="a/b/c")
        return render_order(an_order()) | {"status": render_status(status, before, when)}

    complete = read(OrderPhase.COMPLETE, [], NOW)
    assert parse_order(complete).restored is None
    restored = read(OrderPhase.RESTORED, complete["status"]["conditions"], LATER)
    assert parse_order(restored).restored == LATER
    again = read(OrderPhase.RESTORED, restored["status"]["conditions"], LATER + timedelta(hours=1))
    assert parse_order(again).restored == LATER, "the time of the change is kept"


@given(status=_STATUSES, then=_STATUSES)
def test_conditions_are_of_two_kinds_and_never_contradict_the_phase(
    status: OrderStatus, then: OrderStatus
) -> None:
    before = render_status(status, [], NOW)["conditions"]
    after = conditions_of(then, before)
    assert set(after) == {"Complete", "Restored"}
    assert (after["Restored"]["status"] == "True") == (then.phase is OrderPhase.RESTORED)
    if after["Restored"]["status"] == "True":
        assert after["Complete"]["status"] == "True"
    assert all(condition["reason"] and condition["observedGeneration"] == 1 for condition in after.values())


def conditions_of(status: OrderStatus, previous: Any = (), now: datetime = LATER) -> dict[str, Any]:
    """Return the rendered conditions by type."""
    return {condition["type"]: condition for condition in render_status(status, previous, now)["conditions"]}


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    pending = render_status(OrderStatus(), [], NOW)["conditions"]
    dumping = conditions_of(OrderStatus(phase=OrderPhase.DUMPING), pending)
    complete = conditions_of(OrderStatus(phase=OrderPhase.COMPLETE), pending)
    assert dumping["Complete"]["lastTransitionTime"] == "2026-11-24T10:00:00Z"
    assert complete["Complete"]["lastTransitionTime"] == "2026-11-24T10:01:00Z"
    assert complete["Restored"]["lastTransitionTime"] == "2026-11-24T10:00:00Z"


def test_a_failed_restore_leaves_the_checkpoint_complete() -> None:
    complete = OrderStatus(phase=OrderPhase.COMPLETE, message="1.0 GiB in 3 s")
    before = render_status(complete, [], NOW)["conditions"]
    failed = replace(complete, phase=OrderPhase.FAILED, reason="RestoreFailed", message="no such file")
    after = conditions_of(failed, before)
    assert (after["Complete"]["status"], after["Complete"]["message"]) == ("True", "1.0 GiB in 3 s")
    assert (after["Restored"]["status"], after["Restored"]["reason"]) == ("False", "RestoreFailed")


def test_a_failed_dump_says_why() -> None:
    failed = OrderStatus(phase=OrderPhase.FAILED, reason="DumpFailed", message="io_uring")
    complete = conditions_of(failed)["Complete"]
    assert (complete["status"], complete["reason"], complete["message"]) == ("False", "DumpFailed", "io_uring")


def test_an_order_bears_the_labels_by_which_people_find_it_and_the_annotations_given() -> None:
    raw = render_order(an_order(), annotations={names.RECREATE_FROM: "{}"})
    assert raw["metadata"]["labels"] == {names.LABEL_POD_UID: "uid-1", names.LABEL_NODE: "n1"}
    assert raw["metadata"]["annotations"] == {names.RECREATE_FROM: "{}"}
    assert (raw["apiVersion"], raw["kind"]) == ("crikpy.io/v1alpha1", "Checkpoint")


def test_a_node_name_too_long_for_a_label_goes_without_it() -> None:
    order = an_order()
    raw = render_order(replace(order, spec=replace(order.spec, node="n" * 100)))
    assert raw["metadata"]["labels"] == {names.LABEL_POD_UID: "uid-1"}


def test_an_order_that_its_agent_has_not_touched_is_pending() -> None:
    assert parse_order(render_order(an_order())).status == OrderStatus()


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("metadata", "name", None),
        ("spec", "podUID", None),
        ("spec", "nodeName", 7),
        ("spec", "trigger", None),
    ],
)
def test_an_object_that_is_not_what_the_crd_allows_is_refused(part: str, field: str, value: object) -> None:
    raw = render_order(an_order()) | {"status": {}}
    raw[part] = raw[part] | {field: value}
    with pytest.raises(KubeInvalidError, match="cannot be read"):
        parse_order(raw)


def test_long_messages_are_cut_to_what_the_crd_allows() -> None:
    rendered = render_status(OrderStatus(message="x" * 5000), [], NOW)
    assert len(rendered["message"]) == 1024


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 2**30, "5.0 GiB"), (3 * 2**50, "3072.0 TiB")],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert human_size(size) == text


def an_order() -> Order:
    """Return an order of no account."""
    return Order(
        namespace="default",
        name="a-1",
        spec=OrderSpec(
            pod="a",
            pod_uid="uid-1",
            node="n1",
            containers=("c",),
            workload="pod-a",
            trigger=Trigger.MANUAL,
        ),
    )
