"""The queue: messages of EventBridge and Auto Scaling, deleted no sooner than they have been acted upon.

Several clusters may share what fills a queue, and anybody may write nonsense into it, so what is foreign, meant
for a test, unparsable or of no interest is deleted at once. What cannot be acted upon now stays and comes again;
what has come too often is dropped. No message keeps another one waiting.
Source: "Amazon SQS short and long polling", "visibility timeout" (Amazon SQS Developer Guide).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from crikpy.aio.tasks import stop
from crikpy.ec2.aws import Aws
from crikpy.ec2.hooks import LifecycleHooks
from crikpy.ec2.messages import Kind, MessageError, parse_message
from crikpy.ec2.patience import Patience
from crikpy.ec2.sources import Desk, News, Taken
from crikpy.errors import AwsError, CrikpyError
from crikpy.metrics import Metrics
from crikpy.model.notices import InterruptionNotice, Trigger
from crikpy.settings import SourceSettings

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

_log = logging.getLogger(__name__)

_BATCH: Final = 10
"""The most that SQS gives at once."""

_WAIT_S: Final = 20
"""The longest long poll."""

_IN_HAND: Final = 1000
"""Messages at once, most of them lifecycle actions that wait for a machine to be clear."""

_TRIES: Final = 5
_MOST_RECEIVED: Final = 20
"""After this often nobody will ever be able to act upon a message."""

_STALE: Final = timedelta(minutes=30)
"""So long after its machine's end a spot warning tells nobody anything; one that is late by minutes may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Letter:
    """A message as it came.

    Attributes:
        body: text.
        handle: by which it is deleted or kept.
        received: how often it has come.
        sent: when it was sent, in seconds since 1970; 0 where the queue does not say it.
    """

    body: str
    handle: str
    received: int
    sent: float = 0.0


class QueueSource:
    """Hears what is in one SQS queue. A `Source`; a context that closes its connections.

    Args:
        settings: which queue.
        metrics: counted in.
        wait_s: how long one request waits for messages.

    Raises:
        SettingsError: the queue's URL makes no sense, or nothing says which region.
    """

    name = "queue"

    def __init__(self, settings: SourceSettings, metrics: Metrics, *, wait_s: int = _WAIT_S) -> None:
        self._settings = settings
        self._metrics = metrics
        self._wait_s = wait_s
        self._aws = Aws(settings)
        self._hooks = LifecycleHooks(self._aws, settings, metrics)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._aws.close()

    async def check(self) -> str:
        """Say how many messages wait.

        Raises:
            AwsError: the queue does not answer, or does not let us see it.
        """
        found = await self._aws.ask(
            lambda: self._aws.client("sqs").get_queue_attributes(
                QueueUrl=self._settings.queue_url, AttributeNames=["ApproximateNumberOfMessages"]
            )
        )
        waiting = found.get("Attributes", {}).get("ApproximateNumberOfMessages", "0")
        return f"{self._settings.queue_url} answers, {waiting} messages wait"

    async def run(self, desk: Desk) -> None:
        """Hear for ever."""
        patience = Patience(self.name, self._metrics)
        try:
            while True:
                await self._until_room()
                try:
                    letters = await self._receive()
                except AwsError as fault:
                    patience.failed(fault)
                    await patience.pause()
                    continue
                patience.worked()
                for letter in letters:
                    if letter.sent and letter.received == 1:  # what came before is not late by the queue's fault
                        self._metrics.queue_lag_seconds.observe(max(0.0, time.time() - letter.sent))
                    task = asyncio.create_task(self._work(letter, desk))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        finally:
            for task in list(self._tasks):
                await stop(task)

    async def _until_room(self) -> None:
        while len(self._tasks) >= _IN_HAND:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def _receive(self) -> list[_Letter]:
        found = await self._aws.ask(
            lambda: self._aws.client("sqs").receive_message(
                QueueUrl=self._settings.queue_url,
                MaxNumberOfMessages=_BATCH,
                WaitTimeSeconds=self._wait_s,
                VisibilityTimeout=self._settings.queue_visibility_s,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            )
        )
        return [_letter(message) for message in found.get("Messages", [])]

    async def _work(self, letter: _Letter, desk: Desk) -> None:
        """See one message through; whatever goes wrong is its own."""
        try:
            async with self._kept(letter):
                outcome = await self._settle(letter, desk)
            if outcome != "failed":
                await self._delete(letter)
        except CrikpyError as fault:
            outcome = "failed"
            _log.warning("a message of the queue will come again: %s", fault)
        except Exception:  # noqa: BLE001  # a defect of ours in one message must not end the source
            outcome = "failed"
            _log.exception("a message of the queue met a defect of ours; it will come again")
        self._metrics.queue_messages.labels(outcome=outcome).inc()

    async def _settle(self, letter: _Letter, desk: Desk) -> str:
        """Act upon a message and return what came of it; `failed` leaves it in the queue."""
        now = datetime.now(UTC)
        try:
            message = parse_message(letter.body, seen=now)
        except MessageError as fault:
            _log.warning("a message of the queue cannot be understood and is deleted: %s", fault)
            return "unparsable"
        if message.kind is not Kind.NEWS:
            _log.debug("a message of the queue is of no interest: %s", message.what)
            return message.kind.value
        if all(_is_stale(news, now) for news in message.news):
            return "stale"
        if letter.received > _MOST_RECEIVED:
            _log.error("a message came %d times, nobody could act upon it: %s", letter.received, message.what)
            return "dropped"
        taken = [await self._take(news, desk) for news in message.news]
        outcome = _foremost(taken)
        if message.action is not None and outcome is not Taken.FOREIGN:
            await self._hooks.see_through(message.action, desk)
        return outcome.value

    async def _take(self, news: News, desk: Desk) -> Taken:
        """Tell the desk, and tell it again after a while where it cannot act now."""
        pause_s = 0.5
        for _ in range(_TRIES - 1):
            try:
                return await desk.take(news)
            except CrikpyError as fault:
                _log.info("news of the queue have to wait: %s", fault)
            await asyncio.sleep(pause_s)
            pause_s *= 2
        return await desk.take(news)

    async def _delete(self, letter: _Letter) -> None:
        await self._aws.ask(
            lambda: self._aws.client("sqs").delete_message(
                QueueUrl=self._settings.queue_url, ReceiptHandle=letter.handle
            )
        )

    @contextlib.asynccontextmanager
    async def _kept(self, letter: _Letter) -> AsyncIterator[None]:
        """Keep a message from other readers for as long as it is worked on."""
        keeping = asyncio.create_task(self._keep(letter))
        try:
            yield
        finally:
            await stop(keeping)

    async def _keep(self, letter: _Letter) -> None:
        while True:
            await asyncio.sleep(self._settings.queue_visibility_s / 2)
            try:
                await self._aws.ask(
                    lambda: self._aws.client("sqs").change_message_visibility(
                        QueueUrl=self._settings.queue_url,
                        ReceiptHandle=letter.handle,
                        VisibilityTimeout=self._settings.queue_visibility_s,
                    )
                )
            except AwsError as fault:  # it comes again, which does no harm
                _log.info("a message of the queue cannot be kept: %s", fault)


def _letter(message: MessageTypeDef) -> _Letter:
    return _Letter(
        body=message.get("Body", ""),
        handle=message.get("ReceiptHandle", ""),
        received=int(message.get("Attributes", {}).get("ApproximateReceiveCount", "1")),
        sent=int(message.get("Attributes", {}).get("SentTimestamp", "0")) / 1000,
    )


def _is_stale(news: News, now: datetime) -> bool:
    """Say whether a spot warning is so old that its machine has gone or was spared long since."""
    if not isinstance(news, InterruptionNotice) or news.trigger is not Trigger.SPOT_INTERRUPTION:
        return False
    return news.deadline is not None and now > news.deadline + _STALE


def _foremost(taken: list[Taken]) -> Taken:
    """Return what came of a message that tells of several machines."""
    return next((outcome for outcome in (Taken.ACTED, Taken.KNOWN) if outcome in taken), Taken.FOREIGN)
