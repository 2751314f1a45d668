"""What every source of bad news yields: one record, whatever the source."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Trigger(StrEnum):
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
    """

    id: str
    trigger: Trigger
    source: str
    instance: str
    deadline: datetime | None
    action: str
    seen: datetime

    @property
    def final(self) -> bool:
        """Whether the machine will surely go: a rebalance recommendation is only a warning."""
        return self.trigger is not Trigger.REBALANCE_RECOMMENDATION
