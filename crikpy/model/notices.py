"""What every source of bad news yields: one record, whatever the source."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from crikpy.model.words import Word

_SAME_EVENT: Final = timedelta(minutes=5)
"""Two sources that name a time for one event differ by seconds; AWS moves events by more."""

_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class Trigger(Word):
    """Why a checkpoint is taken; also `spec.trigger` of the Checkpoint object."""

    SPOT_INTERRUPTION = "SpotInterruption"
    REBALANCE_RECOMMENDATION = "RebalanceRecommendation"
    SCHEDULED_EVENT = "ScheduledEvent"
    NODE_SHUTDOWN = "NodeShutdown"
    DRAIN = "Drain"
    INTERVAL = "Interval"
    MANUAL = "Manual"


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptionNotice:
    """A node is going away, or may be.

    Attributes:
        id: stable: the same event seen twice, or through two sources of one kind, has the same id.
        trigger: what kind of event it is.
        source: where it was read, such as `imds:spot/instance-action`.
        instance: EC2 instance id.
        deadline: when the machine stops, aware UTC; None when the event names no time.
        action: what happens to the machine: `terminate`, `stop`, `hibernate`, `reboot` or empty.
        seen: when it was read, aware UTC.
        aliases: ids under which other sources told of the same event.
    """

    id: str
    trigger: Trigger
    source: str
    instance: str
    deadline: datetime | None
    action: str
    seen: datetime
    aliases: frozenset[str] = frozenset()

    @property
    def final(self) -> bool:
        """Whether the machine will surely go: a rebalance recommendation is only a warning."""
        return self.trigger is not Trigger.REBALANCE_RECOMMENDATION

    @property
    def stops(self) -> bool:
        """Whether jobs are stopped for good as soon as they are saved.

        Whoever drains a node ends its pods one by one, at a time of his own and as their disruption budgets allow;
        until then they run on, and are saved for good when they are ended.
        """
        return self.final and self.trigger is not Trigger.DRAIN

    def lies_ahead(self, now: datetime, lead: timedelta) -> bool:
        """Say whether there is time yet: maintenance is announced weeks ahead.

        Args:
            now: aware UTC.
            lead: how long before maintenance something is done about it.
        """
        return self.trigger is Trigger.SCHEDULED_EVENT and self.deadline is not None and now < self.deadline - lead

    def known_as(self, notice: str) -> bool:
        """Say whether an id is one of this event's."""
        return notice == self.id or notice in self.aliases

    def is_same_event(self, other: InterruptionNotice) -> bool:
        """Say whether another notice of the same machine tells of the same event, heard of in another way."""
        if self.trigger is not other.trigger:
            return False
        if self.deadline is None or other.deadline is None:
            return True
        return abs(self.deadline - other.deadline) < _SAME_EVENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """A notice that its source announces no longer: the machine stays.

    Attributes:
        notice: as it was told before.
    """

    notice: InterruptionNotice


def foremost(notices: Iterable[InterruptionNotice]) -> InterruptionNotice | None:
    """Return the most pressing notice of one machine, with the ids of all that tell of the same event; or None.

    Those that stop jobs come first, then the other final ones; of these the one with the earliest deadline.
    """
    found = sorted(
        notices,
        key=lambda notice: (not notice.stops, not notice.final, notice.deadline or _NEVER, notice.seen, notice.id),
    )
    if not found:
        return None
    first = found[0]
    ids = frozenset[str]().union(*({one.id, *one.aliases} for one in found if one.is_same_event(first)))
    return replace(first, aliases=ids - {first.id})
