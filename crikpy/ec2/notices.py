"""What the paths of the metadata service mean: payload in, InterruptionNotice out.

Pure: no clock, no network, no memory of what was seen before. The service gives its events no ids, so an id is
a hash of the instance and of what the payload says; the same event read twice has the same id, and an event that
AWS moves to another time is a new one.
Sources: "Spot Instance interruption notices", "EC2 instance rebalance recommendations", "Scheduled events for
your instances" (EC2 User Guide); "Retrieve the target lifecycle state" (EC2 Auto Scaling User Guide).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec

from crikpy.errors import MetadataError
from crikpy.model.notices import InterruptionNotice, Trigger

_Aware = Annotated[datetime, msgspec.Meta(tz=True)]


class _SpotAction(msgspec.Struct):
    action: str
    time: _Aware


class _Rebalance(msgspec.Struct, rename="camel"):
    notice_time: _Aware


class _Scheduled(msgspec.Struct, rename="pascal"):
    code: str
    state: str
    not_before: str
    event_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    """A payload's meaning: everything of a notice that the payload decides.

    Attributes:
        deadline: when the machine stops, aware UTC, or None.
        action: word of InterruptionNotice.action.
        meaning: the words that tell this event from every other of its kind.
    """

    deadline: datetime | None
    action: str
    meaning: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One path of the metadata service that can announce an interruption.

    Attributes:
        name: for people and for InterruptionNotice.source.
        path: below /latest/.
        kind: first word of the ids.
        trigger: what its events are.
        read: turns a payload into events; raises ValueError for what it cannot understand.
    """

    name: str
    path: str
    kind: str
    trigger: Trigger
    read: Callable[[str], Iterator[_Event]]


def translate(source: Source, payload: str, *, instance: str, seen: datetime) -> tuple[InterruptionNotice, ...]:
    """Turn what a source answered into notices; none when it announces nothing.

    Raises:
        MetadataError: the payload is not what AWS documents; `detail` holds its beginning.
    """
    try:
        events = tuple(source.read(payload))
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as fault:
        raise MetadataError(f"{source.path} cannot be understood: {fault}", detail=payload[:200]) from fault
    return tuple(
        InterruptionNotice(
            id=notice_id(source.kind, instance, event.meaning),
            trigger=source.trigger,
            source=f"imds:{source.name}",
            instance=instance,
            deadline=event.deadline,
            action=event.action,
            seen=seen,
        )
        for event in events
    )


def notice_id(kind: str, instance: str, meaning: tuple[str, ...]) -> str:
    """Return the id of what some words say of an instance.

    Each word is hashed with its length before it, so that no two lists of words run into the same bytes.
    """
    digest = hashlib.sha256()
    for word in (instance, kind, *meaning):
        raw = word.encode()
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return f"{kind}-{digest.hexdigest()[:16]}"


def _read_spot(payload: str) -> Iterator[_Event]:
    """Read `{"action": "terminate", "time": "2022-07-11T17:11:44Z"}`.

    Hibernation begins the moment it is announced: its time is then no grace, but it is the only time there is.
    An action that this release does not know still takes the machine away.
    """
    found = msgspec.json.decode(payload, type=_SpotAction)
    deadline = found.time.astimezone(UTC)
    action = found.action if found.action in ("terminate", "stop", "hibernate") else ""
    yield _Event(deadline=deadline, action=action, meaning=(found.action, deadline.isoformat()))


def _read_rebalance(payload: str) -> Iterator[_Event]:
    """Read `{"noticeTime": "2020-11-05T08:22:00Z"}`: when it was said, which is no deadline."""
    found = msgspec.json.decode(payload, type=_Rebalance)
    yield _Event(deadline=None, action="", meaning=(found.notice_time.astimezone(UTC).isoformat(),))


SCHEDULED_ACTIONS = {
    "instance-stop": "stop",
    "instance-retirement": "stop",
    "instance-reboot": "reboot",
    "system-reboot": "reboot",
}
"""Codes that say what happens to the machine; `system-maintenance` does not."""


def _read_scheduled(payload: str) -> Iterator[_Event]:
    """Read a list of events; only active ones are still to come, and NotBefore is when they begin."""
    for event in msgspec.json.decode(payload, type=list[_Scheduled]):
        if event.state.lower() != "active":
            continue
        deadline = _maintenance_time(event.not_before)
        yield _Event(
            deadline=deadline,
            action=SCHEDULED_ACTIONS.get(event.code, ""),
            meaning=(event.code, event.event_id, deadline.isoformat()),
        )


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MAINTENANCE_TIME = re.compile(rf"(\d{{1,2}}) ({'|'.join(_MONTHS)}) (\d{{4}}) (\d\d):(\d\d):(\d\d) GMT", re.ASCII)


def _maintenance_time(text: str) -> datetime:
    """Read `21 Jan 2019 09:00:43 GMT`; strptime would read the months of the machine's language."""
    found = _MAINTENANCE_TIME.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a time like '21 Jan 2019 09:00:43 GMT'")
    day, month, year, hour, minute, second = found.groups()
    return datetime(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC)


_LIFECYCLE_STATE = re.compile(r"[A-Za-z]+(:[A-Za-z]+)*")


def _read_lifecycle(payload: str) -> Iterator[_Event]:
    """Read one word such as `InService`; only `Terminated` means that the machine goes, and it names no time."""
    state = payload.strip()
    if not _LIFECYCLE_STATE.fullmatch(state):
        raise ValueError("not a lifecycle state")
    if state == "Terminated":
        yield _Event(deadline=None, action="terminate", meaning=(state,))


SOURCES: Final = (
    Source(
        name="spot/instance-action",
        path="meta-data/spot/instance-action",
        kind="spot",
        trigger=Trigger.SPOT_INTERRUPTION,
        read=_read_spot,
    ),
    Source(
        name="autoscaling/target-lifecycle-state",
        path="meta-data/autoscaling/target-lifecycle-state",
        kind="lifecycle",
        trigger=Trigger.NODE_SHUTDOWN,
        read=_read_lifecycle,
    ),
    Source(
        name="events/maintenance/scheduled",
        path="meta-data/events/maintenance/scheduled",
        kind="scheduled",
        trigger=Trigger.SCHEDULED_EVENT,
        read=_read_scheduled,
    ),
    Source(
        name="events/recommendations/rebalance",
        path="meta-data/events/recommendations/rebalance",
        kind="rebalance",
        trigger=Trigger.REBALANCE_RECOMMENDATION,
        read=_read_rebalance,
    ),
)
"""Every source, the most pressing first: a round that reads several yields their notices in this order."""
