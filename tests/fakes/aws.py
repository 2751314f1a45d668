"""AWS for tests: moto behind a real socket, with what moto lacks of Auto Scaling and EC2.

moto answers for SQS, SNS and the rest. Lifecycle actions that wait, spot requests about to end and planned events
are kept here, and served through moto's own HTTP server and renderers. Usable without pytest.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import boto3
from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.responses.spot_instances import SpotInstances
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

REGION = "eu-west-1"
_PAGE = 2
"""A small page, so that whoever does not turn it is found out."""


@dataclass
class _State:
    """What this fake keeps beside moto."""

    tokens: set[str] = field(default_factory=set)
    heartbeats: list[str] = field(default_factory=list)
    completed: list[tuple[str, str]] = field(default_factory=list)
    spot_requests: list[dict[str, Any]] = field(default_factory=list)
    statuses: list[dict[str, Any]] = field(default_factory=list)
    refusing: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def clear(self) -> None:
        """Forget everything."""
        for kept in (self.tokens, self.refusing):
            kept.clear()
        for told in (self.heartbeats, self.completed, self.spot_requests, self.statuses, self.asked):
            told.clear()


_state = _State()
"""The servers of one process share moto's state, too."""


class FakeAws:
    """A server that is gone when its context ends, and nothing in it before.

    Attributes:
        endpoint: its URL.
    """

    def __init__(self, *, address: str = "127.0.0.1") -> None:
        self._address = address
        self._server = ThreadedMotoServer(ip_address=address, port=0, verbose=False)
        self.endpoint = ""

    def __enter__(self) -> Self:
        _extend_moto()
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server.start()
        self.endpoint = f"http://{self._address}:{self._server.get_host_and_port()[1]}"
        self.reset()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()

    def reset(self) -> None:
        """Forget everything."""
        moto_api_backend.reset()
        _state.clear()

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which boto3 talks to this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str) -> Any:
        """Return a client of the test's own."""
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="AKIATESTTESTTESTTEST",
            aws_secret_access_key="not-a-secret",
        )

    # ---- queue -------------------------------------------------------------------------

    def make_queue(self, name: str = "interruptions") -> str:
        """Make a queue and return its URL."""
        with self._using("sqs") as sqs:
            return str(sqs.create_queue(QueueName=name)["QueueUrl"])

    def send(self, queue: str, body: str | dict[str, Any]) -> None:
        """Put a message into a queue."""
        with self._using("sqs") as sqs:
            sqs.send_message(QueueUrl=queue, MessageBody=body if isinstance(body, str) else json.dumps(body))

    def left_in(self, queue: str) -> int:
        """Return how many messages are in a queue, those included that somebody has in hand."""
        with self._using("sqs") as sqs:
            found = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
        return int(found["ApproximateNumberOfMessages"]) + int(found["ApproximateNumberOfMessagesNotVisible"])

    # ---- Auto Scaling ------------------------------------------------------------------

    def await_action(self, token: str) -> None:
        """Have a lifecycle action wait for an answer."""
        _state.tokens.add(token)

    @property
    def heartbeats(self) -> list[str]:
        """Return the tokens of all heartbeats so far."""
        return list(_state.heartbeats)

    @property
    def completed(self) -> list[tuple[str, str]]:
        """Return the tokens of the completed actions with their results."""
        return list(_state.completed)

    # ---- EC2 ---------------------------------------------------------------------------

    def request_spot(self, instance: str, code: str, updated: datetime, *, request: str = "sir-1") -> None:
        """Have a spot request stand in a status."""
        status = {"Code": code, "UpdateTime": updated}
        _state.spot_requests.append(
            {"SpotInstanceRequestId": request, "InstanceId": instance, "Status": status, "State": "active"}
        )

    def plan_event(self, instance: str, code: str, begins: datetime, *, description: str = "planned") -> None:
        """Have an event be planned for an instance."""
        event = {
            "Code": code,
            "NotBefore": begins,
            "Description": description,
            "InstanceEventId": "instance-event-1",
        }
        _state.statuses.append({"InstanceId": instance, "Events": [event]})

    def cancel_events(self) -> None:
        """Have no event be planned any more."""
        _state.statuses.clear()

    def refuse(self, *actions: str) -> None:
        """Have describing calls refused for want of permission, from now on; none to permit them again."""
        _state.refusing = set(actions)

    @property
    def asked(self) -> list[str]:
        """Return the describing calls so far, one for each page."""
        return list(_state.asked)

    @contextmanager
    def _using(self, service: str) -> Iterator[Any]:
        client = self.client(service)
        try:
            yield client
        finally:
            client.close()


def _extend_moto() -> None:
    """Teach moto the calls that it lacks."""
    taught: tuple[tuple[type, str, Callable[[Any], ActionResult]], ...] = (
        (AutoScalingResponse, "record_lifecycle_action_heartbeat", _heartbeat),
        (AutoScalingResponse, "complete_lifecycle_action", _complete),
        (InstanceResponse, "describe_instance_status", _statuses),
        (SpotInstances, "describe_spot_instance_requests", _spot_requests),
    )
    for responses, name, call in taught:
        setattr(responses, name, call)


def _heartbeat(response: Any) -> ActionResult:
    _state.heartbeats.append(_waiting_token(response))
    return EmptyResult()


def _complete(response: Any) -> ActionResult:
    token = _waiting_token(response)
    _state.tokens.discard(token)
    _state.completed.append((token, response._get_param("LifecycleActionResult")))
    return EmptyResult()


def _waiting_token(response: Any) -> str:
    token = str(response._get_param("LifecycleActionToken"))
    if token not in _state.tokens:
        raise ValidationError(f"No active Lifecycle Action found with token {token}")
    return token


def _statuses(response: Any) -> ActionResult:
    codes = _filter(response, "event.code")
    found = [
        status
        for status in _state.statuses
        if codes is None or any(event["Code"] in codes for event in status["Events"])
    ]
    return _page(response, "DescribeInstanceStatus", "InstanceStatuses", found)


def _spot_requests(response: Any) -> ActionResult:
    codes = _filter(response, "status-code")
    found = [request for request in _state.spot_requests if codes is None or request["Status"]["Code"] in codes]
    return _page(response, "DescribeSpotInstanceRequests", "SpotInstanceRequests", found)


def _filter(response: Any, name: str) -> list[str] | None:
    filters: dict[str, list[str]] = response._filters_from_querystring()
    return filters.get(name)


def _page(response: Any, action: str, name: str, found: list[dict[str, Any]]) -> ActionResult:
    """Return a page; EC2 gives a token with every page but the last."""
    _state.asked.append(action)
    if action in _state.refusing:
        raise RefusedError
    begin = int(base64.b64decode(response._get_param("NextToken") or b"MA=="))
    end = begin + _PAGE
    result: dict[str, Any] = {name: found[begin:end]}
    if end < len(found):
        result["NextToken"] = base64.b64encode(str(end).encode()).decode()
    return ActionResult(result)


class RefusedError(EC2ClientError):
    """What EC2 says to whoever lacks a permission."""

    def __init__(self) -> None:
        super().__init__("UnauthorizedOperation", "You are not authorized to perform this operation.")
