"""AWS as the controller of the end-to-end tests knows it: one queue, and lifecycle hooks that wait for an answer.

A moto server on this machine, at the address at which the nodes of hack/cluster see it.
"""

from __future__ import annotations

import contextlib
import secrets
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from tests.e2e.kubectl import Json, wait_for
from tests.fakes.aws import REGION, FakeAws

_SPOT_S = 120.0
"""EC2's warning comes so long before the interruption, and names no time."""


class AwsNews:
    """Says things about instances by the queue that the controller reads."""

    def __init__(self, address: str) -> None:
        self._server = FakeAws(address=address)
        self._queue = ""

    def __enter__(self) -> Self:
        self._server.__enter__()
        self._queue = self._server.make_queue()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables by which the controller finds queue and hooks; it asks for heartbeats often."""
        given = self._server.environment
        return {
            "AWS_ENDPOINT_URL_SQS": self._server.endpoint,
            "AWS_ENDPOINT_URL_AUTO_SCALING": self._server.endpoint,
            **{name: value for name, value in given.items() if name != "AWS_ENDPOINT_URL"},
            "CRIKPY_SOURCES_QUEUE_URL": self._queue,
            "CRIKPY_SOURCES_REGION": REGION,
            "CRIKPY_SOURCES_HOOK_HEARTBEAT_S": "1",
        }

    def spot(self, *instances: str, in_s: float = _SPOT_S) -> None:
        """Warn of spot interruptions, so many seconds ahead, one message for each."""
        begun = datetime.now(UTC) - timedelta(seconds=_SPOT_S - in_s)
        self._send(
            _event(
                "aws.ec2",
                "EC2 Spot Instance Interruption Warning",
                {"instance-id": instance, "instance-action": "terminate"},
                begun,
            )
            for instance in instances
        )

    def terminates(self, instance: str) -> str:
        """Have Auto Scaling ask whether it may terminate an instance; return the token of the waiting action."""
        token = str(uuid.uuid4())
        self._server.await_action(token)
        detail = {
            "LifecycleActionToken": token,
            "AutoScalingGroupName": "workers",
            "LifecycleHookName": "crikpy",
            "EC2InstanceId": instance,
            "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
            "Origin": "AutoScalingGroup",
            "Destination": "EC2",
        }
        event = _event("aws.autoscaling", "EC2 Instance-terminate Lifecycle Action", detail, datetime.now(UTC))
        self._send([event])
        return token

    def result_of(self, token: str) -> str:
        """Return with which word an action was completed; empty as long as it waits."""
        return dict(self._server.completed).get(token, "")

    def heartbeats_of(self, token: str) -> int:
        """Return how many heartbeats have kept an action waiting so far."""
        return self._server.heartbeats.count(token)

    def await_empty(self, *, within_s: float = 60) -> None:
        """Wait until every message has been acted upon and deleted."""
        wait_for("an empty queue", lambda: self._server.left_in(self._queue) == 0, within_s=within_s)

    def clear(self) -> None:
        """Forget what a test that failed has left in the queue, by making it anew: SQS purges once a minute."""
        if self._server.left_in(self._queue):
            with contextlib.closing(self._server.client("sqs")) as sqs:
                sqs.delete_queue(QueueUrl=self._queue)
            self._server.make_queue()

    def _send(self, messages: Iterable[Json]) -> None:
        for message in messages:
            self._server.send(self._queue, message)


def _event(source: str, kind: str, detail: dict[str, Any], when: datetime) -> Json:
    """Return an event as EventBridge puts it into a queue."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": kind,
        "source": source,
        "account": "123456789012",
        "time": f"{when:%Y-%m-%dT%H:%M:%SZ}",
        "region": REGION,
        "resources": [],
        "detail": detail,
    }


def strange_instance() -> str:
    """Return the id of an instance that is none of the cluster's."""
    return f"i-0{secrets.token_hex(8)}"
