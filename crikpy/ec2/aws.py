"""AWS's own APIs as the controller's sources use them: clients, threads to wait in, and what errors mean.

boto3 blocks, and a long poll does so for twenty seconds. Every call has a thread of its own that nobody waits for
when the process ends; an answer that comes too late for that is lost, as it would be if the process were killed.
Credentials come from AWS's own chain and never from settings of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, overload

import boto3
from botocore import exceptions as boto
from botocore.config import Config

from crikpy import __version__
from crikpy.aio.threads import Thread
from crikpy.errors import AwsError, AwsForbiddenError, AwsUnavailableError, SettingsError
from crikpy.settings import SourceSettings

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_sqs import SQSClient

T = TypeVar("T")

_CONNECT_S: Final = 5.0
_READ_S: Final = 30.0
"""Longer than the longest long poll."""

_ATTEMPTS: Final = 3
_AT_ONCE: Final = 16
"""Calls at once: as many as messages are worked on, and the long poll beside them."""

_QUEUE_URL: Final = re.compile(r"https?://(?:sqs\.(?P<region>[a-z0-9-]+)\.|(?P<old>[a-z0-9-]+)\.queue\.)?\S+/\S+")

_FORBIDDEN: Final = (
    "AccessDenied",
    "AuthFailure",
    "Unauthorized",
    "UnrecognizedClient",
    "Signature",
    "Token",
    "OptInRequired",
)
_BUSY: Final = ("Throttl", "RequestLimitExceeded", "ServiceUnavailable", "InternalError", "RequestTimeout")
"""Parts of AWS's error codes."""

_NO_CREDENTIALS: Final = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.TokenRetrievalError,
)
_REMEDY: Final = "give the controller's service account a role that permits it, see docs/sources.md"


class Aws:
    """Clients of one region, made when they are needed.

    Args:
        settings: region, and the queue's URL that may tell of it.

    Raises:
        SettingsError: nothing says which region.
    """

    def __init__(self, settings: SourceSettings) -> None:
        self._session = boto3.session.Session()
        self._region = settings.region or region_of(settings.queue_url) or self._session.region_name
        if not self._region:
            raise SettingsError("nothing says which AWS region to listen in", remedy="set CRIKPY_SOURCES_REGION")
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)

    @property
    def region(self) -> str:
        """Return the region."""
        return self._region

    @overload
    def client(self, service: Literal["sqs"]) -> SQSClient: ...
    @overload
    def client(self, service: Literal["ec2"]) -> EC2Client: ...
    @overload
    def client(self, service: Literal["autoscaling"]) -> AutoScalingClient: ...
    def client(self, service: Literal["sqs", "ec2", "autoscaling"]) -> Any:
        """Return a service's client; blocks for a moment the first time, so only for a thread."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._session.client(
                    service,
                    region_name=self._region,
                    config=Config(
                        connect_timeout=_CONNECT_S,
                        read_timeout=_READ_S,
                        retries={"mode": "adaptive", "total_max_attempts": _ATTEMPTS},
                        max_pool_connections=_AT_ONCE,
                        user_agent_extra=f"crikpy/{__version__}",
                    ),
                )
            return self._clients[service]

    async def ask(self, act: Callable[[], T]) -> T:
        """Call something that blocks.

        Raises:
            AwsUnavailableError: AWS is out of reach or overloaded.
            AwsForbiddenError: there are no credentials, or they do not permit it.
            AwsError: AWS refuses it otherwise; `detail` is its error code.
        """
        async with self._room:
            try:
                return await _in_thread(act)
            except (boto.BotoCoreError, boto.ClientError) as fault:
                raise translate(fault) from fault

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()


def region_of(queue_url: str) -> str:
    """Return the region that a queue's URL names, or nothing.

    Raises:
        SettingsError: it is no queue's URL.
    """
    if not queue_url:
        return ""
    found = _QUEUE_URL.fullmatch(queue_url)
    if found is None:
        raise SettingsError(
            f"CRIKPY_SOURCES_QUEUE_URL is no queue's URL: {queue_url!r}",
            remedy="give it as SQS shows it: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
        )
    return found["region"] or found["old"] or ""


def translate(fault: Exception) -> AwsError:
    """Return the error of our own tree for one of boto3's."""
    if not isinstance(fault, boto.ClientError):
        if isinstance(fault, _NO_CREDENTIALS):
            return AwsForbiddenError(f"no credentials for AWS: {fault}", remedy=_REMEDY)
        if isinstance(fault, (boto.ParamValidationError, boto.UnknownServiceError)):
            return AwsError(f"AWS cannot be asked like this: {fault}")
        return AwsUnavailableError(f"AWS cannot be reached: {fault}")
    answer = fault.response.get("Error", {})
    code, status = answer.get("Code", ""), fault.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    text = f"AWS refuses {fault.operation_name}: {code} ({status}) {answer.get('Message', '')}"
    if any(word in code for word in _BUSY) or status >= 500 or status == 429:
        return AwsUnavailableError(text, detail=code)
    if any(word in code for word in _FORBIDDEN) or status in (401, 403):
        return AwsForbiddenError(text, remedy=_REMEDY, detail=code)
    remedy = "check CRIKPY_SOURCES_QUEUE_URL" if "NonExistentQueue" in code or "QueueDoesNotExist" in code else ""
    return AwsError(text, remedy=remedy, detail=code)


async def _in_thread(act: Callable[[], T]) -> T:
    """Run something in a thread that the process does not wait for."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, fault: BaseException | None) -> None:
        if answer.done():
            return
        if fault is not None:
            answer.set_exception(fault)
        else:
            answer.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, failure = None, None
        try:
            result = act()
        except BaseException as fault:  # noqa: BLE001  # raised where it is awaited
            failure = fault
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    Thread(target=work, name="crikpy-aws", daemon=True).start()
    return await answer
