"""The client's answers and errors, whatever the API server and the network do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import crikpy
from crikpy import errors
from crikpy.aio.clock import Deadline
from crikpy.kube.api import PatchKind
from crikpy.kube.client import KubeClient
from crikpy.kube.raw import Json
from crikpy.kube.resources import CHECKPOINTS, JOBS, NODES, PODS, SECRETS
from tests.fakes.kube import FakeKube

PATIENCE_S = 20.0


def thing(name: str = "a", **more: object) -> Json:
    return {"metadata": {"name": name, "namespace": "ns"}, **more}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400", errors.KubeInvalidError),
        ("401", errors.KubeForbiddenError),
        ("403", errors.KubeForbiddenError),
        ("404", errors.KubeNotFoundError),
        ("405", errors.KubeInvalidError),
        ("409", errors.KubeConflictError),
        ("410", errors.KubeExpiredError),
        ("413", errors.KubeInvalidError),
        ("422", errors.KubeInvalidError),
        ("429", errors.KubeUnavailableError),
        ("500", errors.KubeUnavailableError),
        ("503", errors.KubeUnavailableError),
        ("504", errors.KubeUnavailableError),
        ("reset", errors.KubeUnavailableError),
        ("stall", errors.KubeUnavailableError),
    ],
)
@pytest.mark.parametrize("verb", ["get", "list", "create", "replace", "patch", "delete"])
async def test_each_refusal_is_an_error_of_our_own(
    kube: FakeKube, api: KubeClient, status: str, kind: type[errors.KubeError], verb: str
) -> None:
    soon = Deadline.after(0.3 if status == "stall" else PATIENCE_S)
    asks: dict[str, Callable[[], Awaitable[object]]] = {
        "get": lambda: api.get(SECRETS, "a", namespace="ns", deadline=soon),
        "list": lambda: api.list(SECRETS, deadline=soon),
        "create": lambda: api.create(SECRETS, thing(), deadline=soon),
        "replace": lambda: api.replace(SECRETS, "a", thing(), deadline=soon),
        "patch": lambda: api.patch(SECRETS, "a", {}, namespace="ns", deadline=soon),
        "delete": lambda: api.delete(SECRETS, "a", namespace="ns", deadline=soon),
    }
    kube.trouble(status, verb=verb)
    with pytest.raises(errors.KubeError) as caught:
        await asks[verb]()
    assert type(caught.value) is kind
    assert "/api/v1/" in caught.value.message


async def test_a_server_that_is_not_there_is_unavailable(kube: FakeKube, api: KubeClient) -> None:
    await kube.stop()
    with pytest.raises(errors.KubeUnavailableError, match=api.host):
        await api.get(PODS, "p", namespace="ns")
    await kube.start()
    with pytest.raises(errors.KubeNotFoundError):
        await api.get(PODS, "p", namespace="ns")


async def test_a_silent_server_is_given_up_without_a_deadline_too(kube: FakeKube, tmp_path: Path) -> None:
    kube.trouble("stall")
    async with await KubeClient.connect(kube.settings(tmp_path, request_timeout_s=0.2)) as api:
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(errors.KubeUnavailableError, match="in time"):
                await api.get(PODS, "p", namespace="ns")
            with pytest.raises(errors.KubeUnavailableError, match="in time"):
                await api.get(PODS, "p", namespace="ns", deadline=Deadline.after(1000))


@pytest.mark.parametrize("status", ["429", "503"])
async def test_a_server_that_names_a_time_is_asked_again_then(
    kube: FakeKube, api: KubeClient, status: str
) -> None:
    kube.trouble(status, times=2, retry_after=0)
    made = await api.create(SECRETS, thing())
    assert made == kube.get(SECRETS, "a", namespace="ns")
    assert len(kube.seen("create")) == 3


@pytest.mark.parametrize("retry_after", [None, 60])
async def test_a_busy_server_is_not_asked_again_without_a_time_or_after_the_deadline(
    kube: FakeKube, api: KubeClient, retry_after: int | None
) -> None:
    kube.trouble("429", retry_after=retry_after)
    with pytest.raises(errors.KubeUnavailableError, match="429"):
        await api.create(SECRETS, thing())
    assert len(kube.seen("create")) == 1


async def test_a_time_in_another_refusal_means_nothing(kube: FakeKube, api: KubeClient) -> None:
    kube.trouble("409", retry_after=0)
    with pytest.raises(errors.KubeConflictError):
        await api.create(SECRETS, thing())
    assert len(kube.seen("create")) == 1


async def test_a_lost_answer_says_nothing_about_what_was_done(kube: FakeKube, api: KubeClient) -> None:
    kube.trouble("lose", times=1)
    with pytest.raises(errors.KubeUnavailableError):
        await api.create(SECRETS, thing())
    with pytest.raises(errors.KubeConflictError):
        await api.create(SECRETS, thing())


async def test_a_blocked_eviction_is_told_from_a_busy_server(kube: FakeKube, api: KubeClient) -> None:
    uid = kube.put(PODS, thing("p", spec={"nodeName": "n"}))["metadata"]["uid"]
    kube.block_evictions(1)
    with pytest.raises(errors.EvictionBlockedError, match="disruption budget"):
        await api.evict("ns", "p", uid=uid)
    kube.trouble("429", times=1)
    with pytest.raises(errors.KubeUnavailableError):
        await api.evict("ns", "p", uid=uid)
    await api.evict("ns", "p", uid=uid, grace_period_s=9)
    evicted = kube.get(PODS, "p", namespace="ns")
    assert evicted is not None
    assert evicted["metadata"]["deletionGracePeriodSeconds"] == 9


async def test_what_the_client_does_not_know_is_kept(kube: FakeKube, api: KubeClient) -> None:
    body = thing("p", spec={"containers": None, "fieldOfTomorrow": {"x": [None, 1.5]}}, eventTime=None)
    kube.put(PODS, body)
    read = await api.get(PODS, "p", namespace="ns")
    assert read["spec"] == body["spec"]
    assert read["eventTime"] is None
    (listed,) = (await api.list(PODS)).items
    assert listed == read
    written = await api.replace(PODS, "p", {**read, "metadata": {**read["metadata"], "labels": {"x": "y"}}})
    assert written["spec"] == body["spec"]
    copy = {"metadata": {"name": "q", "namespace": "ns"}, "spec": read["spec"]}
    assert (await api.create(PODS, copy))["spec"] == body["spec"]


async def test_a_long_list_is_read_in_pages_that_belong_together(kube: FakeKube, api: KubeClient) -> None:
    for number in range(1200):
        kube.put(SECRETS, thing(f"s{number:04}"))
    version = str(kube.objects.version)
    kube.trouble("stall", verb="list", after=1, times=1)
    reading = asyncio.create_task(api.list(SECRETS))
    await kube.stalling.wait()
    kube.remove(SECRETS, "s1100", namespace="ns")
    kube.put(SECRETS, thing("s0999-new"))
    kube.heal()
    found = await reading
    assert [item["metadata"]["name"] for item in found.items] == [f"s{number:04}" for number in range(1200)]
    assert found.resource_version == version
    assert [request.query.get("limit") for request in kube.seen("list")] == ["500"] * 3


async def test_a_list_that_expires_half_way_is_read_again_in_one_piece(kube: FakeKube, api: KubeClient) -> None:
    for number in range(600):
        kube.put(SECRETS, thing(f"s{number:04}"))
    kube.trouble("410", verb="list", after=1, times=1)
    assert len((await api.list(SECRETS)).items) == 600
    assert [request.query.get("limit") for request in kube.seen("list")] == ["500", "500", None]


async def test_requests_say_what_they_should(kube: FakeKube, api: KubeClient) -> None:
    uid = kube.put(PODS, thing("p"))["metadata"]["uid"]
    await api.patch(PODS, "p", [], namespace="ns", kind=PatchKind.JSON, field_manager="someone")
    await api.patch(NODES, "n", {"metadata": {"name": "n"}}, kind=PatchKind.APPLY, field_manager="someone")
    await api.delete(PODS, "p", namespace="ns", uid=uid, grace_period_s=0)
    json_patch, apply, delete = kube.requests
    assert (json_patch.media, json_patch.query) == (PatchKind.JSON, {"fieldManager": "someone"})
    assert (apply.media, apply.query) == (PatchKind.APPLY, {"fieldManager": "someone", "force": "true"})
    assert (apply.namespace, apply.name) == ("", "n")
    assert delete.body["preconditions"] == {"uid": uid}
    assert delete.body["gracePeriodSeconds"] == 0
    assert json_patch.agent == f"crikpy/{crikpy.__version__}"


async def test_a_page_of_something_else_is_an_error(kube: FakeKube, api: KubeClient) -> None:
    kube.trouble("200")
    with pytest.raises(errors.KubeError, match="is it a Kubernetes API server"):
        await api.list(PODS)


async def test_many_calls_go_at_once(kube: FakeKube, api: KubeClient) -> None:
    await asyncio.gather(*(api.create(SECRETS, thing(f"s{number}")) for number in range(50)))
    assert len(kube.all(SECRETS)) == 50


async def test_a_call_that_is_cancelled_hurts_no_other(kube: FakeKube, api: KubeClient) -> None:
    kube.trouble("stall", times=1)
    stalled = asyncio.create_task(api.get(PODS, "p", namespace="ns"))
    await kube.stalling.wait()
    stalled.cancel()
    await asyncio.wait([stalled])
    assert stalled.cancelled()
    await api.create(SECRETS, thing())


def test_paths_are_those_of_the_api_server() -> None:
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path(namespace="ns", name="p", subresource="status") == "/api/v1/namespaces/ns/pods/p/status"
    assert NODES.path(namespace="ignored", name="n") == "/api/v1/nodes/n"
    assert JOBS.path(namespace="ns") == "/apis/batch/v1/namespaces/ns/jobs"
    assert CHECKPOINTS.path() == "/apis/crikpy.io/v1alpha1/checkpoints"
    assert PODS.path(namespace="a?b", name="a/b") == "/api/v1/namespaces/a%3Fb/pods/a%2Fb"
    with pytest.raises(errors.KubeInvalidError):
        PODS.path(namespace="..", name="p")
