"""Asking EC2 itself, for accounts without a queue: spot requests about to end, and planned events.

Slower than every other source, and it costs requests of the account's rate limit, so it is off by default; boto3's
adaptive mode slows it down further where EC2 throttles. What stands is told once; planned events that are listed
no more are told as withdrawn.
Sources: "Spot request status" (EC2 User Guide), DescribeSpotInstanceRequests, DescribeInstanceStatus (EC2 API).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self

from crikpy.ec2.aws import Aws
from crikpy.ec2.notices import SCHEDULED_ACTIONS, notice_id
from crikpy.ec2.patience import Patience
from crikpy.ec2.sources import Desk
from crikpy.errors import AwsError, CrikpyError
from crikpy.metrics import Metrics
from crikpy.model.notices import InterruptionNotice, Trigger, Withdrawn
from crikpy.settings import SourceSettings

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceStatusTypeDef, SpotInstanceRequestTypeDef

_log = logging.getLogger(__name__)

_GRACE: Final = timedelta(minutes=2)
_PAGE: Final = 1000
_WITHDRAWN_AFTER: Final = 3
"""Looks in succession that miss an event before it counts as withdrawn."""

_MARKED: Final[dict[str, Literal["terminate", "stop"]]] = {
    "marked-for-termination": "terminate",
    "instance-terminated-by-experiment": "terminate",
    "instance-terminated-by-price": "terminate",
    "instance-terminated-capacity-oversubscribed": "terminate",
    "instance-terminated-no-capacity": "terminate",
    "marked-for-stop": "stop",
    "marked-for-stop-by-experiment": "stop",
}
"""Status codes of a spot request whose instance is about to be taken away, and what happens to it. A request can
be called terminated at once; its instance runs for two minutes more."""

_STALE: Final = timedelta(minutes=30)
"""How long after its instance's end a request is of no interest; EC2 lists it for days."""

_EVENTS: Final = (*SCHEDULED_ACTIONS, "system-maintenance")
_OVER: Final = ("[Completed]", "[Canceled]")
"""Beginnings of the description of an event that is not to come any more."""


class PollSource:
    """Asks EC2 again and again. A `Source`; a context that closes its connections.

    Args:
        settings: how often.
        metrics: counted in.

    Raises:
        SettingsError: nothing says which region.
    """

    name = "poll"

    def __init__(self, settings: SourceSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._aws = Aws(settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._aws.close()

    async def check(self) -> str:
        """Ask once for as little as possible.

        Raises:
            AwsError: EC2 does not answer, or does not let us ask.
        """
        await self._aws.ask(lambda: self._aws.client("ec2").describe_spot_instance_requests(MaxResults=5))
        await self._aws.ask(lambda: self._aws.client("ec2").describe_instance_status(MaxResults=5))
        return f"EC2 of {self._aws.region} is asked every {self._settings.poll_interval_s:g} s"

    async def run(self, desk: Desk) -> None:
        """Ask for ever."""
        patience = Patience(self.name, self._metrics)
        standing = _Standing()
        while True:
            began = time.monotonic()
            try:
                notices = [*await self._spot_requests(), *await self._events()]
            except AwsError as fault:
                patience.failed(fault)
                await patience.pause()
                continue
            patience.worked()
            await standing.tell(notices, desk)
            await asyncio.sleep(max(0.0, began + self._settings.poll_interval_s - time.monotonic()))

    async def _spot_requests(self) -> list[InterruptionNotice]:
        def ask() -> list[SpotInstanceRequestTypeDef]:
            pages = self._aws.client("ec2").get_paginator("describe_spot_instance_requests")
            chosen = pages.paginate(
                Filters=[{"Name": "status-code", "Values": list(_MARKED)}], PaginationConfig={"PageSize": _PAGE}
            )
            return [request for page in chosen for request in page.get("SpotInstanceRequests", [])]

        seen = datetime.now(UTC)
        found = (_spot_notice(request, seen) for request in await self._aws.ask(ask))
        return [notice for notice in found if notice is not None]

    async def _events(self) -> list[InterruptionNotice]:
        def ask() -> list[InstanceStatusTypeDef]:
            pages = self._aws.client("ec2").get_paginator("describe_instance_status")
            chosen = pages.paginate(
                Filters=[{"Name": "event.code", "Values": list(_EVENTS)}], PaginationConfig={"PageSize": _PAGE}
            )
            return [status for page in chosen for status in page.get("InstanceStatuses", [])]

        seen = datetime.now(UTC)
        return [notice for status in await self._aws.ask(ask) for notice in _planned(status, seen)]


class _Standing:
    """What stands and has been told, and how often in succession each was missed."""

    def __init__(self) -> None:
        self._told: dict[str, InterruptionNotice] = {}
        self._missed: Counter[str] = Counter()

    async def tell(self, notices: Sequence[InterruptionNotice], desk: Desk) -> None:
        """Tell the desk what is new, and what is gone; what it cannot act upon is told at the next look."""
        for notice in notices:
            del self._missed[notice.id]
            if notice.id not in self._told:
                with _left_for_later(notice):
                    await desk.take(notice)
                    self._told[notice.id] = notice
        listed = {notice.id for notice in notices}
        for notice in [one for one in self._told.values() if one.id not in listed]:
            self._missed[notice.id] += 1
            if self._missed[notice.id] < _WITHDRAWN_AFTER:
                continue
            with _left_for_later(notice):
                if notice.trigger is Trigger.SCHEDULED_EVENT:
                    await desk.take(Withdrawn(notice=notice))
                del self._told[notice.id], self._missed[notice.id]


@contextlib.contextmanager
def _left_for_later(notice: InterruptionNotice) -> Iterator[None]:
    try:
        yield
    except CrikpyError as fault:
        _log.info("news of %s have to wait: %s", notice.instance, fault)


def _spot_notice(request: SpotInstanceRequestTypeDef, seen: datetime) -> InterruptionNotice | None:
    status, instance = request.get("Status", {}), request.get("InstanceId", "")
    action, marked = _MARKED.get(status.get("Code", "")), status.get("UpdateTime", seen)
    if not instance or action is None or seen > marked + _STALE:
        return None
    return InterruptionNotice(
        id=notice_id("spot-request", instance, (request.get("SpotInstanceRequestId", ""), marked.isoformat())),
        trigger=Trigger.SPOT_INTERRUPTION,
        source="poll:spot-request",
        instance=instance,
        deadline=(marked + _GRACE).astimezone(UTC),
        action=action,
        seen=seen,
    )


def _planned(status: InstanceStatusTypeDef, seen: datetime) -> Iterator[InterruptionNotice]:
    instance = status.get("InstanceId", "")
    for event in status.get("Events", []):
        begins, code = event.get("NotBefore"), str(event.get("Code", ""))
        if begins is None or code not in _EVENTS or event.get("Description", "").startswith(_OVER):
            continue
        deadline = begins.astimezone(UTC)
        yield InterruptionNotice(
            id=notice_id("scheduled", instance, (code, event.get("InstanceEventId", ""), deadline.isoformat())),
            trigger=Trigger.SCHEDULED_EVENT,
            source="poll:instance-status",
            instance=instance,
            deadline=deadline,
            action=SCHEDULED_ACTIONS.get(code, ""),
            seen=seen,
        )
