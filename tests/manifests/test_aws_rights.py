"""What the roles of hack/aws may do is what crikpy's code asks AWS for: all of it, and no more."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.client
import pytest
from botocore import xform_name

from crikpy.aio.tasks import stop
from crikpy.ec2.polling import PollSource
from crikpy.ec2.queue import QueueSource
from crikpy.metrics import Metrics
from crikpy.model.workload import Workload
from crikpy.settings import SourceSettings, StoreSettings
from crikpy.store.layout import chunk_key
from crikpy.store.opening import open_store
from tests.ec2.desks import Desk
from tests.ec2.test_messages import body
from tests.fakes.aws import REGION, FakeAws
from tests.manifests.aws_templates import Stacks, actions_of, statements, template

CRIKPY = Path(__file__).parents[2] / "crikpy"
CHUNK = chunk_key(Workload(cluster="plain", namespace="default", name="train"), "ab" * 32)

RIGHTS = {
    "s3": {
        "get_object": "s3:GetObject",
        "put_object": "s3:PutObject",
        "delete_object": "s3:DeleteObject",
        "list_objects_v2": "s3:ListBucket",
    },
    "kms": {"generate_data_key": "kms:GenerateDataKey", "decrypt": "kms:Decrypt"},
    "sqs": {
        "get_queue_attributes": "sqs:GetQueueAttributes",
        "receive_message": "sqs:ReceiveMessage",
        "delete_message": "sqs:DeleteMessage",
        "change_message_visibility": "sqs:ChangeMessageVisibility",
    },
    "autoscaling": {
        "record_lifecycle_action_heartbeat": "autoscaling:RecordLifecycleActionHeartbeat",
        "complete_lifecycle_action": "autoscaling:CompleteLifecycleAction",
    },
    "ec2": {
        "describe_spot_instance_requests": "ec2:DescribeSpotInstanceRequests",
        "describe_instance_status": "ec2:DescribeInstanceStatus",
    },
}
"""Which right a call of boto3's needs (Service Authorization Reference)."""

STORE, CONTROLLER = {"s3", "kms"}, {"sqs", "autoscaling", "ec2"}


def rights_of(services: set[str]) -> set[str]:
    return {right for service in services for right in RIGHTS[service].values()}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """What AWS is asked for by boto3, whoever asks."""
    seen: set[tuple[str, str]] = set()
    call: Callable[..., Any] = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]

    def noted(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        seen.add((client.meta.service_model.service_name, xform_name(operation)))
        return call(client, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", noted)
    return seen


def calls_in_code() -> Iterator[tuple[str, str]]:
    """Yield each call of boto3's that stands in crikpy's code."""
    a_call = r'(?:get_paginator\(\s*"(\w+)"|(?!get_paginator|meta\b|close\b)(\w+)\()'
    for path in sorted(CRIKPY.glob("ec2/*.py")):
        for service, paged, called in re.findall(rf'\.client\("(\w+)"\)\s*\.{a_call}', path.read_text()):
            yield service, paged or called
    for service, pattern in (("s3", r"self\._client"), ("kms", r"self\._client\(name\)")):
        text = (CRIKPY / f"store/{service}.py").read_text()
        for paged, called in re.findall(rf"{pattern}\.{a_call}", text):
            yield service, paged or called


def test_every_call_in_the_code_has_its_right() -> None:
    assert set(calls_in_code()) == {(service, call) for service, calls in RIGHTS.items() for call in calls}


def test_boto3_is_used_nowhere_else() -> None:
    users = {
        str(path.relative_to(CRIKPY))
        for path in CRIKPY.rglob("*.py")
        if re.search(r"^ *(?:import boto3|from boto3)", path.read_text(), re.MULTILINE)
    }
    assert users == {"ec2/aws.py", "store/bulk.py", "store/kms.py", "store/s3.py"}


def test_the_agents_role_may_do_what_the_store_is_asked_for_and_no_more(
    stacks: Stacks, aws: FakeAws, asked: set[tuple[str, str]]
) -> None:
    made = stacks.deploy("store", BucketName="jobs", Sealing="true")
    roles = stacks.deploy("roles", ClusterName="production", StorePolicyArn=made["StorePolicyArn"])
    asked.clear()
    use_the_store(made["Store"], aws)
    assert {RIGHTS[service][call] for service, call in asked} == rights_of(STORE)
    assert stacks.actions(roles["AgentRoleArn"]) == rights_of(STORE)


def use_the_store(url: str, aws: FakeAws) -> None:
    """Do all that can be asked of a sealed store, each time as a process that knows no key yet."""
    settings = StoreSettings(endpoint=aws.endpoint, region=REGION, path_style=True, kms_key="alias/crikpy")
    for act in ("write", "read"):
        with closing(open_store(url, settings)) as store:
            if act == "write":
                store.check()
                store.put(CHUNK, b"bytes")
            else:
                assert bytes(store.get(CHUNK)) == b"bytes"
                assert [found.key for found in store.list("")]
                assert list(store.folders(""))
                store.delete(CHUNK)


async def test_the_controllers_role_may_do_what_its_sources_ask_for_and_no_more(
    stacks: Stacks, aws: FakeAws, asked: set[tuple[str, str]]
) -> None:
    store = stacks.deploy("store", BucketName="jobs")
    queue = stacks.deploy("interruptions", ClusterName="production")
    roles = stacks.deploy(
        "roles",
        ClusterName="production",
        StorePolicyArn=store["StorePolicyArn"],
        ControllerPolicyArn=queue["ControllerPolicyArn"],
        Poll="true",
    )
    await asyncio.to_thread(asked.clear)
    await hear_of_a_lifecycle_action(aws, queue["QueueUrl"])
    await poll()
    ours = {(service, call) for service, call in asked if call != "send_message"}
    assert {RIGHTS[service][call] for service, call in ours} == rights_of(CONTROLLER)
    assert stacks.actions(roles["ControllerRoleArn"]) == rights_of(CONTROLLER)


async def hear_of_a_lifecycle_action(aws: FakeAws, queue: str) -> None:
    """Have an instance wait for a while, and then go, as the queue tells of it."""
    settings = SourceSettings(queue_url=queue, region=REGION, queue_visibility_s=1, hook_heartbeat_s=0.1)
    desk, token = Desk(), str(uuid.uuid4())
    desk.clear = False
    event = json.loads(body("lifecycle-eventbridge"))
    event["time"] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    event["detail"]["LifecycleActionToken"] = token
    aws.await_action(token)
    async with QueueSource(settings, Metrics(), wait_s=1) as source:
        await source.check()
        task = asyncio.create_task(source.run(desk))
        aws.send(queue, event)
        await desk.until(lambda: len(aws.heartbeats) > 8)  # for longer than half of a message's visibility
        desk.clear = True
        await desk.until(lambda: aws.left_in(queue) == 0)
        await stop(task)
    assert aws.completed == [(token, "CONTINUE")]


async def poll() -> None:
    settings = SourceSettings(poll_enabled=True, poll_interval_s=0.1, region=REGION)
    async with PollSource(settings, Metrics()) as source:
        await source.check()


@pytest.mark.parametrize("name", ["store", "interruptions"])
def test_no_right_is_for_everything(name: str) -> None:
    kinds = template(name)["Resources"].values()
    policies = [one for one in kinds if one["Type"] == "AWS::IAM::ManagedPolicy"]
    assert policies
    for statement in statements(policies):
        assert "*" not in (statement["Resource"], *actions_of(statement))
        assert not any(action.endswith(":*") for action in actions_of(statement))
