"""Nodes are read as they come, and a notice survives the way through a node's condition."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy import names
from crikpy.kube.nodes import (
    instance_of,
    notice_condition,
    parse_node,
    read_notice,
    read_reports,
    render_report_patch,
    render_reports,
)
from crikpy.model.nodes import Node, Taint
from crikpy.model.notices import InterruptionNotice, Trigger

NOW = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
INSTANCE = "i-0123456789abcdef0"

_WORDS = st.from_regex(r"[A-Za-z0-9._/:-]{1,30}", fullmatch=True)
_TIMES = st.timedeltas(timedelta(days=-3650), timedelta(days=3650)).map(lambda ago: NOW - ago)
_NOTICES = st.builds(
    InterruptionNotice,
    id=_WORDS,
    trigger=st.sampled_from(Trigger),
    source=_WORDS,
    instance=st.just(INSTANCE),
    deadline=st.none() | _TIMES,
    action=st.sampled_from(["", "terminate", "stop", "hibernate", "reboot"]),
    seen=_TIMES.map(lambda when: when.replace(microsecond=0)),
)


@given(notice=_NOTICES)
def test_a_notice_survives_the_way_through_the_condition(notice: InterruptionNotice) -> None:
    assert read_notice(notice_condition(notice, NOW), instance=INSTANCE) == notice


@given(notices=st.lists(_NOTICES, max_size=4))
def test_reports_survive_the_way_through_the_annotation(notices: list[InterruptionNotice]) -> None:
    assert read_reports(render_reports(notices), instance=INSTANCE) == tuple(notices)


@given(text=st.text(), notice=_NOTICES)
def test_what_is_no_report_in_an_annotation_hides_none(text: str, notice: InterruptionNotice) -> None:
    found = read_reports(f"{text}\n{render_reports([notice])}", instance=INSTANCE)
    assert found[-1] == notice


def test_a_patch_takes_the_last_report_away() -> None:
    patch = render_report_patch(Node(name="n1", uid="u", resource_version="7"), ())
    assert patch == {"metadata": {"resourceVersion": "7", "annotations": {names.REPORTED: None}}}


@given(
    condition=st.dictionaries(st.sampled_from(["status", "reason", "message", "lastTransitionTime"]), st.text())
)
def test_a_condition_in_other_words_is_no_notice(condition: dict[str, Any]) -> None:
    assert read_notice({"status": "True"} | condition, instance=INSTANCE) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("message", "spot-1: terminate at noon (imds)"),
        ("message", "spot-1: terminate at 2026-11-24T10:02:00Z"),
        ("message", "spot-1: terminate at 2026-11-24T10:02:00Z (imds) and more"),
        ("reason", "Whim"),
        ("lastTransitionTime", None),
    ],
)
def test_a_notice_with_one_odd_field_is_none(field: str, value: object) -> None:
    good = notice_condition(a_notice(), NOW)
    assert read_notice(good, instance="") is not None
    assert read_notice(good | {field: value}, instance="") is None


def test_a_notice_is_told_in_words_for_people() -> None:
    condition = notice_condition(a_notice(), NOW)
    assert condition["message"] == "spot-1: terminate at 2026-11-24T10:02:00Z (imds:spot/instance-action)"
    assert (condition["status"], condition["reason"]) == ("True", "SpotInterruption")


def test_a_withdrawn_notice_is_none() -> None:
    condition = notice_condition(None, NOW)
    assert (condition["status"], condition["reason"]) == ("False", "NoNotice")
    assert read_notice(condition, instance="") is None


def test_a_node_is_read_with_all_that_crikpy_needs() -> None:
    node = parse_node(
        {
            "metadata": {
                "name": "n1",
                "uid": "u",
                "resourceVersion": "7",
                "annotations": {names.CORDONED: "spot-1", "other.io/x": "y"},
                "deletionTimestamp": "2026-11-24T10:00:00Z",
            },
            "spec": {
                "providerID": f"aws:///eu-test-1a/{INSTANCE}",
                "unschedulable": True,
                "taints": [{"key": "k", "effect": "NoSchedule", "timeAdded": "2026-11-24T10:00:00Z"}],
            },
            "status": {
                "conditions": [
                    {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "gone"}
                    | {"lastHeartbeatTime": "2026-11-24T10:00:00Z"},
                    notice_condition(a_notice(), NOW),
                ]
            },
        }
    )
    assert (node.name, node.uid, node.resource_version, node.instance) == ("n1", "u", "7", INSTANCE)
    assert (node.ready, node.ready_reason, node.ready_message) == (False, "NodeStatusUnknown", "gone")
    assert (node.heartbeat, node.unschedulable, node.deleting) == (NOW, True, True)
    assert node.taints == (Taint(key="k", effect="NoSchedule"),)
    assert node.annotations == ((names.CORDONED, "spot-1"),)
    assert node.notice == a_notice(instance=INSTANCE)


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ({"status": "True", "message": "it can"}, ""),
        ({"status": "False", "reason": "NoStore", "message": "the store is away"}, "the store is away"),
        ({"status": "False", "reason": "NoStore"}, "NoStore"),
        ({"status": "False"}, "no reason given"),
    ],
)
def test_why_nothing_can_be_saved_on_a_node_is_read_of_its_condition(condition: dict[str, Any], why: str) -> None:
    said = {"type": names.CONDITION_READY, **condition}
    assert parse_node({"status": {"conditions": [said]}}).unable == why


@pytest.mark.parametrize(
    "raw", [{}, {"metadata": None, "spec": None, "status": {"conditions": None}}, {"spec": 1}]
)
def test_an_odd_node_is_a_poor_one_but_no_error(raw: dict[str, Any]) -> None:
    node = parse_node(raw)
    assert (node.ready, node.unschedulable, node.notice, node.taints) == (False, False, None, ())


@pytest.mark.parametrize(
    ("provider", "instance"),
    [
        ("aws:///eu-west-1b/i-0123456789abcdef0", "i-0123456789abcdef0"),
        ("aws:///i-0123456789abcdef0", "i-0123456789abcdef0"),
        ("kind://docker/kind/n1", ""),
        ("aws:///eu-west-1b/fargate-ip-10-0-0-1", ""),
        ("", ""),
    ],
)
def test_the_instance_comes_from_the_provider_id(provider: str, instance: str) -> None:
    assert instance_of(provider) == instance


def a_notice(instance: str = "") -> InterruptionNotice:
    """Return a spot interruption in two minutes."""
    return InterruptionNotice(
        id="spot-1",
        trigger=Trigger.SPOT_INTERRUPTION,
        source="imds:spot/instance-action",
        instance=instance,
        deadline=datetime(2026, 11, 24, 10, 2, 0, tzinfo=UTC),
        action="terminate",
        seen=NOW,
    )
