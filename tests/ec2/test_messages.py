"""What every shape of message means, the wrong ones too. The shapes are AWS's own examples, with ids of ours."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.ec2.messages import Kind, LifecycleAction, MessageError, parse_message
from crikpy.ec2.notices import SOURCES, translate
from crikpy.model.notices import InterruptionNotice, Trigger, Withdrawn

FIXTURES = Path(__file__).parent / "fixtures"
SEEN = datetime(2026, 11, 24, 10, 0, 3, tzinfo=UTC)
SENT = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
INSTANCE = "i-0123456789abcdef0"


def body(name: str) -> str:
    return (FIXTURES / f"{name}.json").read_text()


def notices(name: str) -> list[InterruptionNotice]:
    """Return the notices of a message that tells of some."""
    message = parse_message(body(name), seen=SEEN)
    assert message.kind is Kind.NEWS
    found = [news for news in message.news if isinstance(news, InterruptionNotice)]
    assert len(found) == len(message.news)
    return found


@pytest.mark.parametrize(
    ("name", "trigger", "action", "after_s"),
    [
        ("spot-terminate", Trigger.SPOT_INTERRUPTION, "terminate", 120),
        ("spot-stop", Trigger.SPOT_INTERRUPTION, "stop", 120),
        ("spot-hibernate", Trigger.SPOT_INTERRUPTION, "hibernate", 0),
        ("spot-sns", Trigger.SPOT_INTERRUPTION, "terminate", 120),
        ("reservation", Trigger.SPOT_INTERRUPTION, "terminate", 127),
        ("rebalance", Trigger.REBALANCE_RECOMMENDATION, "", None),
        ("state-terminated", Trigger.NODE_SHUTDOWN, "terminate", 0),
        ("state-shutting-down", Trigger.NODE_SHUTDOWN, "terminate", None),
        ("state-stopping", Trigger.NODE_SHUTDOWN, "stop", None),
        ("lifecycle-eventbridge", Trigger.NODE_SHUTDOWN, "terminate", None),
        ("lifecycle-direct", Trigger.NODE_SHUTDOWN, "terminate", None),
        ("lifecycle-sns", Trigger.NODE_SHUTDOWN, "terminate", None),
    ],
)
def test_an_event_is_a_notice(name: str, trigger: Trigger, action: str, after_s: float | None) -> None:
    (notice,) = notices(name)
    assert (notice.trigger, notice.action, notice.instance) == (trigger, action, INSTANCE)
    assert notice.deadline == (None if after_s is None else SENT + timedelta(seconds=after_s))
    assert notice.seen == SEEN
    assert notice.source.startswith("queue:")


def test_maintenance_is_told_for_every_instance_and_for_nothing_else() -> None:
    first, second = notices("health-scheduled")
    assert (first.instance, second.instance) == (INSTANCE, "i-0fedcba9876543210")
    assert first.trigger is Trigger.SCHEDULED_EVENT
    assert (first.deadline, first.action) == (datetime(2026, 11, 26, 6, 0, tzinfo=UTC), "stop")


def test_maintenance_that_is_called_off_withdraws_what_was_told() -> None:
    told = notices("health-scheduled")
    closed = parse_message(body("health-closed"), seen=SEEN).news
    assert [news.notice.id for news in closed if isinstance(news, Withdrawn)] == [notice.id for notice in told]


@pytest.mark.parametrize("name", ["lifecycle-eventbridge", "lifecycle-direct", "lifecycle-sns"])
def test_a_lifecycle_action_says_whom_to_answer(name: str) -> None:
    assert parse_message(body(name), seen=SEEN).action == LifecycleAction(
        group="workers", hook="crikpy", token="87654321-4321-4321-4321-210987654321", instance=INSTANCE
    )


def test_a_lifecycle_action_has_the_id_that_the_instance_itself_gives_it() -> None:
    (source,) = [source for source in SOURCES if source.kind == "lifecycle"]
    (local,) = translate(source, "Terminated", instance=INSTANCE, seen=SEEN)
    (remote,) = notices("lifecycle-sns")
    assert remote.id == local.id


def test_an_event_that_is_delivered_twice_has_one_id() -> None:
    assert notices("spot-terminate")[0].id == notices("spot-sns")[0].id
    other = json.loads(body("spot-terminate")) | {"id": "another"}
    assert parse_message(json.dumps(other), seen=SEEN).news[0] != notices("spot-terminate")[0]


@pytest.mark.parametrize("name", ["test-notification", "test-notification-sns"])
def test_a_test_notification_is_one(name: str) -> None:
    assert parse_message(body(name), seen=SEEN).kind is Kind.TEST


@pytest.mark.parametrize(
    "name", ["state-running", "health-issue", "health-of-rds", "lifecycle-launching", "other-event"]
)
def test_what_concerns_nobody_here_is_ignored(name: str) -> None:
    message = parse_message(body(name), seen=SEEN)
    assert (message.kind, message.news, message.action) == (Kind.IGNORED, (), None)


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("wrong-*.json")), ids=lambda path: path.stem)
def test_a_wrong_message_is_refused(path: Path) -> None:
    with pytest.raises(MessageError):
        parse_message(path.read_text(), seen=SEEN)


@pytest.mark.parametrize("text", ["", "null", "3", '"spot"', "{}", "{" * 5000, "\ud800", '{"Event": 1}'])
def test_what_is_no_message_at_all_is_refused_and_quoted_at_its_beginning(text: str) -> None:
    with pytest.raises(MessageError) as refused:
        parse_message(text, seen=SEEN)
    assert len(str(refused.value)) < 1500


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=8,
)


@given(
    name=st.sampled_from([path.stem for path in FIXTURES.glob("*.json")]),
    field=st.text(max_size=10) | st.sampled_from(["detail", "time", "Message", "EC2InstanceId", "detail-type"]),
    value=JSON,
)
def test_whatever_stands_in_a_message_it_is_understood_or_refused(name: str, field: str, value: Any) -> None:
    found = json.loads(body(name))
    if isinstance(found, dict):
        if isinstance(found.get("detail"), dict):
            found["detail"] |= {field: value}
        found = found | {field: value}
    with contextlib.suppress(MessageError):
        parse_message(json.dumps(found), seen=SEEN)


@given(st.text())
def test_any_text_is_understood_or_refused(text: str) -> None:
    with pytest.raises(MessageError):
        parse_message(text + "x", seen=SEEN)
