"""Which signs on a Node object say that it surely goes away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy import names
from crikpy.errors import SettingsError
from crikpy.kube.signals import read_signs, why_going
from crikpy.model.nodes import Node, Taint
from crikpy.model.notices import Trigger
from crikpy.settings import SignalSettings

TABLE = read_signs(SignalSettings())


def node(*taints: Taint, ready: bool = True, message: str = "", deleting: bool = False) -> Node:
    return Node(name="n1", uid="u", taints=taints, ready=ready, ready_message=message, deleting=deleting)


@pytest.mark.parametrize(
    ("key", "effect", "reason"),
    [
        ("karpenter.sh/disrupted", "NoSchedule", Trigger.DRAIN),
        ("ToBeDeletedByClusterAutoscaler", "NoSchedule", Trigger.DRAIN),
        ("aws-node-termination-handler/spot-itn", "NoSchedule", Trigger.SPOT_INTERRUPTION),
        ("aws-node-termination-handler/scheduled-maintenance", "NoExecute", Trigger.SCHEDULED_EVENT),
        ("aws-node-termination-handler/asg-lifecycle-termination", "NoSchedule", Trigger.NODE_SHUTDOWN),
        ("cloud.google.com/impending-node-termination", "NoSchedule", Trigger.NODE_SHUTDOWN),
        ("remediator.kubernetes.azure.com/unschedulable", "NoSchedule", Trigger.NODE_SHUTDOWN),
        ("karpenter.sh/disrupted", "PreferNoSchedule", None),
        ("DeletionCandidateOfClusterAutoscaler", "PreferNoSchedule", None),
        ("aws-node-termination-handler/rebalance-recommendation", "NoSchedule", None),
        ("node.kubernetes.io/unschedulable", "NoSchedule", None),
        ("crikpy.io/interruption", "PreferNoSchedule", None),
    ],
)
def test_a_taint_means_what_the_table_says(key: str, effect: str, reason: Trigger | None) -> None:
    assert why_going(node(Taint(key="other", effect="NoSchedule"), Taint(key=key, effect=effect)), TABLE) is reason


def test_a_machine_that_shuts_down_and_an_object_that_is_deleted_are_going() -> None:
    assert why_going(node(ready=False, message="node is shutting down"), ()) is Trigger.NODE_SHUTDOWN
    assert why_going(node(ready=False, message="container runtime is down"), ()) is None
    assert why_going(node(ready=True, message="node is shutting down"), ()) is None
    assert why_going(node(deleting=True), ()) is Trigger.DRAIN
    assert why_going(node(), TABLE) is None


def test_users_add_signs_and_take_away_ours() -> None:
    more = "example.com/retiring ScheduledEvent, karpenter.sh/disrupted:NoSchedule Ignore,"
    signs = read_signs(SignalSettings(more_taints=more))
    assert why_going(node(Taint(key="example.com/retiring")), signs) is Trigger.SCHEDULED_EVENT
    assert why_going(node(Taint(key="karpenter.sh/disrupted", effect="NoSchedule")), signs) is None
    assert read_signs(SignalSettings(taints="")) == ()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("example.com/retiring", "not a key and a meaning"),
        ("a Drain now", "not a key and a meaning"),
        (":NoSchedule Drain", "the key is missing"),
        ("a:Sometimes Drain", "the effect must be NoSchedule, PreferNoSchedule, NoExecute or left out"),
        ("a: Drain", "the effect must be"),
        (
            "a Interval",
            "the meaning must be SpotInterruption, ScheduledEvent, NodeShutdown, Drain, RebalanceRecommendation",
        ),
    ],
)
def test_a_line_that_cannot_be_read_is_named_with_what_is_allowed(line: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match="CRIKPY_SIGNALS_MORE_TAINTS") as refused:
        read_signs(SignalSettings(more_taints=f"fine Drain,{line}"))
    assert repr(line) in str(refused.value)
    assert complaint in str(refused.value)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        signs = read_signs(SignalSettings(taints="", more_taints=text))
    except SettingsError:
        return
    assert len(signs or ()) <= text.count(",") + 1


def test_signs_that_are_switched_off_say_nothing_but_our_own_taint_does() -> None:
    off = read_signs(SignalSettings(enabled=False))
    assert why_going(node(ready=False, message="node is shutting down"), off) is None
    assert why_going(node(Taint(key=names.TAINT, value="SpotInterruption", effect="NoSchedule")), off) is not None
