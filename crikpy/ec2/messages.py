"""What the messages of the queue mean: body in, news out.

Pure. A message comes from EventBridge, from Auto Scaling directly, or from either through an SNS topic, which
wraps it once more. Everything that is not one of ours is either named (a test, an event that concerns nobody here)
or refused as unparsable; no bytes make this fail otherwise. Sources: "Monitor Amazon EC2 with EventBridge",
"Monitor interruptible Capacity Reservations" (EC2 User Guide); "AWS Health events Amazon EventBridge schema" (AWS
Health User Guide); "Prepare to add a lifecycle hook" (EC2 Auto Scaling User Guide). The `resources` of EC2's
events name a zone where the region belongs, so instances are read from `detail`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

import msgspec

from crikpy.ec2.notices import notice_id
from crikpy.ec2.sources import News
from crikpy.model.notices import InterruptionNotice, Trigger, Withdrawn

_GRACE: Final = timedelta(minutes=2)
"""Between the warning of a spot interruption and its machine's end."""

_TERMINATING: Final = "autoscaling:EC2_INSTANCE_TERMINATING"
_TEST: Final = "autoscaling:TEST_NOTIFICATION"

_LIFECYCLE_EVENT: Final = ("aws.autoscaling", "EC2 Instance-terminate Lifecycle Action")
"""Its details are what Auto Scaling sends when it sends directly."""

_INSTANCE: Final = re.compile(r"i-[0-9a-f]{8,17}")
_Instance = Annotated[str, msgspec.Meta(pattern=f"^{_INSTANCE.pattern}$")]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
_Aware = Annotated[datetime, msgspec.Meta(tz=True)]

_Action = Literal["terminate", "stop", "hibernate", "reboot", ""]


class MessageError(ValueError):
    """A body that is no message of any kind that is known; never leaves this folder."""


class Kind(StrEnum):
    """What is to be done with a message."""

    NEWS = "news"
    TEST = "test"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleAction:
    """An instance that Auto Scaling keeps until it is told to go on.

    Attributes:
        group: name of the Auto Scaling group.
        hook: name of the lifecycle hook.
        token: of this one action.
        instance: its id.
    """

    group: str
    hook: str
    token: str
    instance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A body's meaning.

    Attributes:
        kind: what is to be done with it.
        what: its kind in words, for logs.
        news: what it tells of machines.
        action: the lifecycle action that waits for an answer, or None.
    """

    kind: Kind
    what: str
    news: tuple[News, ...] = ()
    action: LifecycleAction | None = None


class _Event(msgspec.Struct):
    """An event of EventBridge."""

    id: str
    detail_type: str = msgspec.field(name="detail-type")
    source: str
    time: _Aware
    detail: dict[str, Any]


class _Warning(msgspec.Struct, rename="kebab"):
    instance_id: _Instance
    instance_action: str = ""
    instance_termination_time: _Aware | None = None


class _State(msgspec.Struct, rename="kebab"):
    instance_id: _Instance
    state: str


class _Entity(msgspec.Struct, rename="camel"):
    entity_value: str = ""


class _Health(msgspec.Struct, rename="camel"):
    event_arn: str
    service: str
    event_type_category: str
    start_time: str = ""
    event_type_code: str = ""
    status_code: str = ""
    affected_entities: list[_Entity] = []


class _Lifecycle(msgspec.Struct, rename="pascal"):
    auto_scaling_group_name: _Name
    lifecycle_hook_name: _Name
    lifecycle_action_token: Annotated[str, msgspec.Meta(min_length=36, max_length=36)]
    lifecycle_transition: str
    instance: _Instance = msgspec.field(name="EC2InstanceId")


def parse_message(body: str, *, seen: datetime) -> Message:
    """Return what a message means.

    Args:
        body: as the queue has it.
        seen: when it was received, aware UTC.

    Raises:
        MessageError: it is no message of a known kind.
    """
    try:
        return _parse(_decode(body), seen)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as fault:
        raise MessageError(f"{fault}: {body[:200]!r}") from fault


def _decode(body: str) -> dict[str, Any]:
    found = msgspec.json.decode(body, type=dict[str, Any])
    if found.get("Type") == "Notification" and isinstance(found.get("Message"), str):
        return msgspec.json.decode(found["Message"], type=dict[str, Any])
    return found


def _parse(found: dict[str, Any], seen: datetime) -> Message:
    if found.get("Event") == _TEST:
        return Message(kind=Kind.TEST, what="test notification")
    if "LifecycleTransition" in found:
        return _lifecycle(found, seen)
    event = msgspec.convert(found, _Event)
    if (event.source, event.detail_type) == _LIFECYCLE_EVENT:
        return _lifecycle(event.detail, seen)
    read = _READERS.get((event.source, event.detail_type))
    if read is None:
        return Message(kind=Kind.IGNORED, what=event.detail_type)
    news = tuple(read(event, seen))
    return Message(kind=Kind.NEWS if news else Kind.IGNORED, what=event.detail_type, news=news)


def _lifecycle(detail: dict[str, Any], seen: datetime) -> Message:
    """Read a lifecycle action; the notice has the id that the instance's own metadata service gives it."""
    what = "lifecycle action"
    found = msgspec.convert(detail, _Lifecycle)
    if found.lifecycle_transition != _TERMINATING:
        return Message(kind=Kind.IGNORED, what=f"{what} {found.lifecycle_transition}")
    notice = InterruptionNotice(
        id=notice_id("lifecycle", found.instance, ("Terminated",)),
        trigger=Trigger.NODE_SHUTDOWN,
        source="queue:lifecycle-action",
        instance=found.instance,
        deadline=None,
        action="terminate",
        seen=seen,
    )
    action = LifecycleAction(
        group=found.auto_scaling_group_name,
        hook=found.lifecycle_hook_name,
        token=found.lifecycle_action_token,
        instance=found.instance,
    )
    return Message(kind=Kind.NEWS, what=what, news=(notice,), action=action)


def _spot(event: _Event, seen: datetime) -> Iterator[News]:
    """Read a warning; of an instance that hibernates EC2 takes the memory at once."""
    warning = msgspec.convert(event.detail, _Warning)
    action = _known(warning.instance_action)
    deadline = event.time if action == "hibernate" else event.time + _GRACE
    yield _notice(event, "spot", Trigger.SPOT_INTERRUPTION, warning.instance_id, seen, deadline, action)


def _reservation(event: _Event, seen: datetime) -> Iterator[News]:
    """Read the end of an interruptible Capacity Reservation: as sure and sudden as a spot interruption."""
    warning = msgspec.convert(event.detail, _Warning)
    deadline = warning.instance_termination_time or event.time + _GRACE
    action = _known(warning.instance_action) or "terminate"
    yield _notice(event, "reservation", Trigger.SPOT_INTERRUPTION, warning.instance_id, seen, deadline, action)


def _rebalance(event: _Event, seen: datetime) -> Iterator[News]:
    instance = msgspec.convert(event.detail, _Warning).instance_id
    yield _notice(event, "rebalance", Trigger.REBALANCE_RECOMMENDATION, instance, seen, None, "")


_STATES: Final[dict[str, tuple[_Action, bool]]] = {
    "stopping": ("stop", False),
    "stopped": ("stop", True),
    "shutting-down": ("terminate", False),
    "terminated": ("terminate", True),
}
"""What happens to an instance in a state, and whether it has happened already."""


def _state(event: _Event, seen: datetime) -> Iterator[News]:
    """Read a change of state; one that is over has the time of the event."""
    found = msgspec.convert(event.detail, _State)
    if found.state in _STATES:
        action, over = _STATES[found.state]
        deadline = event.time if over else None
        yield _notice(event, "state", Trigger.NODE_SHUTDOWN, found.instance_id, seen, deadline, action)


def _health(event: _Event, seen: datetime) -> Iterator[News]:
    """Read scheduled maintenance of any number of instances, or that it is not to be any more."""
    health = msgspec.convert(event.detail, _Health)
    if health.service != "EC2" or health.event_type_category != "scheduledChange":
        return
    deadline = _start(health.start_time) if health.start_time else None
    code = health.event_type_code.upper()
    action: _Action = "reboot" if "REBOOT" in code else "stop" if "STOP" in code or "RETIREMENT" in code else ""
    for entity in health.affected_entities:
        if not _INSTANCE.fullmatch(entity.entity_value):
            continue
        notice = InterruptionNotice(
            id=notice_id("scheduled", entity.entity_value, (health.event_arn,)),
            trigger=Trigger.SCHEDULED_EVENT,
            source="queue:health",
            instance=entity.entity_value,
            deadline=deadline,
            action=action,
            seen=seen,
        )
        yield Withdrawn(notice=notice) if health.status_code == "closed" else notice


def _start(text: str) -> datetime:
    """Read `Sat, 05 Jun 2023 15:10:09 GMT`."""
    found = parsedate_to_datetime(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _known(action: str) -> _Action:
    """Return an action in our words; one that this release does not know still takes the machine away."""
    match action:
        case "terminate" | "stop" | "hibernate":
            return action
    return ""


def _notice(
    event: _Event,
    kind: str,
    trigger: Trigger,
    instance: str,
    seen: datetime,
    deadline: datetime | None,
    action: _Action,
) -> InterruptionNotice:
    """Return a notice; an event that is delivered twice has the same id both times."""
    return InterruptionNotice(
        id=notice_id(kind, instance, (event.id,)),
        trigger=trigger,
        source=f"queue:{kind}",
        instance=instance,
        deadline=None if deadline is None else deadline.astimezone(UTC),
        action=action,
        seen=seen,
    )


_READERS: Final[dict[tuple[str, str], Callable[[_Event, datetime], Iterator[News]]]] = {
    ("aws.ec2", "EC2 Spot Instance Interruption Warning"): _spot,
    ("aws.ec2", "EC2 Instance Rebalance Recommendation"): _rebalance,
    ("aws.ec2", "EC2 Instance State-change Notification"): _state,
    ("aws.ec2", "EC2 Capacity Reservation Instance Interruption Warning"): _reservation,
    ("aws.health", "AWS Health Event"): _health,
}
