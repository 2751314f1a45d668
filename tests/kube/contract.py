"""What holds of every API server, the fake one of the tests and a real one.

Each test works in a namespace of its own, with pods that no kubelet runs.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crikpy import errors
from crikpy.aio.clock import Deadline
from crikpy.aio.tasks import stop
from crikpy.kube.api import KubeApi, PatchKind
from crikpy.kube.asking import OPEN
from crikpy.kube.changes import Change
from crikpy.kube.events import EventRecorder, Reference
from crikpy.kube.leases import Leadership
from crikpy.kube.raw import Json
from crikpy.kube.resources import EVENTS, LEASES, PODS, SECRETS, Resource
from crikpy.kube.watching import Mirror
from crikpy.metrics import Metrics

PATIENCE_S = 30.0
NOWHERE = "no-such-node"


def secret(name: str, **labels: str) -> Json:
    return {"metadata": {"name": name, "labels": labels}, "stringData": {"word": name}}


def pod(name: str, *, node: str = NOWHERE, **labels: str) -> Json:
    container = {"name": "main", "image": "none.invalid/none"}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 77, "containers": [container]},
    }


class Contract:
    """Inherit and provide `api` and `place`, a namespace that is empty."""

    async def test_what_is_created_can_be_read(self, api: KubeApi, place: str) -> None:
        made = await api.create(SECRETS, secret("a"), namespace=place)
        read = await api.get(SECRETS, "a", namespace=place)
        assert read == made
        assert (read["kind"], read["apiVersion"], read["metadata"]["namespace"]) == ("Secret", "v1", place)
        assert read["metadata"]["uid"]

    async def test_the_namespace_of_the_body_is_taken_when_none_is_given(self, api: KubeApi, place: str) -> None:
        body = secret("a")
        body["metadata"]["namespace"] = place
        await api.create(SECRETS, body)
        assert await api.get(SECRETS, "a", namespace=place)

    async def test_a_second_one_of_the_same_name_is_a_conflict(self, api: KubeApi, place: str) -> None:
        await api.create(SECRETS, secret("a"), namespace=place)
        with pytest.raises(errors.KubeConflictError, match="already exists"):
            await api.create(SECRETS, secret("a"), namespace=place)

    async def test_what_is_not_there_is_not_found(self, api: KubeApi, place: str) -> None:
        with pytest.raises(errors.KubeNotFoundError):
            await api.get(SECRETS, "a", namespace=place)
        with pytest.raises(errors.KubeNotFoundError):
            await api.delete(SECRETS, "a", namespace=place)
        with pytest.raises(errors.KubeNotFoundError):
            await api.patch(SECRETS, "a", {"metadata": {"labels": {"x": "y"}}}, namespace=place)
        with pytest.raises(errors.KubeNotFoundError):
            await api.evict(place, "a", uid=str(uuid.uuid4()))

    async def test_a_kind_that_the_cluster_does_not_know_is_not_found(self, api: KubeApi, place: str) -> None:
        unknown = Resource("nothing.crikpy.io", "v1", "nothings", "Nothing")
        with pytest.raises(errors.KubeNotFoundError):
            await api.list(unknown, namespace=place)
        with pytest.raises(errors.KubeNotFoundError):
            async with aclosing(api.watch(unknown, namespace=place, resource_version="")) as watch:
                await anext(watch)

    async def test_an_object_without_a_name_is_invalid(self, api: KubeApi, place: str) -> None:
        with pytest.raises(errors.KubeInvalidError):
            await api.create(SECRETS, {"metadata": {}}, namespace=place)

    async def test_a_selector_that_the_server_does_not_know_is_invalid(self, api: KubeApi, place: str) -> None:
        with pytest.raises(errors.KubeInvalidError):
            await api.list(PODS, namespace=place, field_selector="spec.nothing=1")

    async def test_what_was_changed_since_is_not_overwritten(self, api: KubeApi, place: str) -> None:
        old = await api.create(SECRETS, secret("a"), namespace=place)
        labelled = {**old, "metadata": {**old["metadata"], "labels": {"by": "first"}}}
        await api.replace(SECRETS, "a", labelled)
        with pytest.raises(errors.KubeConflictError, match="modified"):
            await api.replace(SECRETS, "a", {**labelled, "type": "Opaque"})
        stale = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"], "labels": {"by": "second"}}}
        with pytest.raises(errors.KubeConflictError):
            await api.patch(SECRETS, "a", stale, namespace=place)
        assert (await api.get(SECRETS, "a", namespace=place))["metadata"]["labels"] == {"by": "first"}

    async def test_a_lease_is_only_replaced_by_whoever_read_it(self, api: KubeApi, place: str) -> None:
        body: Json = {"metadata": {"name": "l", "namespace": place}, "spec": {"leaseDurationSeconds": 5}}
        await api.create(LEASES, body)
        with pytest.raises(errors.KubeInvalidError, match="resourceVersion"):
            await api.replace(LEASES, "l", body)

    async def test_each_kind_of_patch_changes_what_it_says(self, api: KubeApi, place: str) -> None:
        await api.create(SECRETS, secret("a", old="1", gone="1"), namespace=place)

        async def patched(body: Any, kind: PatchKind, manager: str = "") -> Any:
            found = await api.patch(SECRETS, "a", body, namespace=place, kind=kind, field_manager=manager)
            return found["metadata"]["labels"]

        merge = {"metadata": {"labels": {"new": "2", "gone": None}}}
        assert await patched(merge, PatchKind.MERGE) == {"old": "1", "new": "2"}
        steps = [{"op": "replace", "path": "/metadata/labels/old", "value": "3"}]
        assert await patched(steps, PatchKind.JSON) == {"old": "3", "new": "2"}
        strategic = {"metadata": {"labels": {"new": "4"}}}
        assert await patched(strategic, PatchKind.STRATEGIC) == {"old": "3", "new": "4"}
        applied = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "a", "labels": {"old": "5"}},
        }
        assert await patched(applied, PatchKind.APPLY, "crikpy-test") == {"old": "5", "new": "4"}

    async def test_a_test_in_a_json_patch_guards_the_rest(self, api: KubeApi, place: str) -> None:
        await api.create(SECRETS, secret("a", word="1"), namespace=place)
        steps = [
            {"op": "test", "path": "/metadata/labels/word", "value": "2"},
            {"op": "replace", "path": "/metadata/labels/word", "value": "3"},
        ]
        with pytest.raises(errors.KubeInvalidError):
            await api.patch(SECRETS, "a", steps, namespace=place, kind=PatchKind.JSON)
        assert (await api.get(SECRETS, "a", namespace=place))["metadata"]["labels"] == {"word": "1"}

    async def test_a_patch_that_changes_nothing_is_no_change(self, api: KubeApi, place: str) -> None:
        made = await api.create(SECRETS, secret("a", word="1"), namespace=place)
        same = await api.patch(SECRETS, "a", {"metadata": {"labels": {"word": "1"}}}, namespace=place)
        assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]

    async def test_a_deletion_means_one_object_only(self, api: KubeApi, place: str) -> None:
        made = await api.create(SECRETS, secret("a"), namespace=place)
        with pytest.raises(errors.KubeConflictError):
            await api.delete(SECRETS, "a", namespace=place, uid=str(uuid.uuid4()))
        await api.delete(SECRETS, "a", namespace=place, uid=made["metadata"]["uid"])
        with pytest.raises(errors.KubeNotFoundError):
            await api.get(SECRETS, "a", namespace=place)

    async def test_the_status_is_written_apart_from_the_rest(self, api: KubeApi, place: str) -> None:
        made = await api.create(PODS, {**pod("p"), "status": {"phase": "Running"}}, namespace=place)
        assert made["status"]["phase"] == "Pending"
        change = {"metadata": {"labels": {"x": "y"}}, "status": {"reason": "Whole"}}
        assert "reason" not in (await api.patch(PODS, "p", change, namespace=place))["status"]
        first = {"status": {"conditions": [{"type": "First", "status": "True"}]}}
        second = {"status": {"conditions": [{"type": "Second", "status": "False"}]}}
        for status in (first, second):
            changed = await api.patch(
                PODS, "p", status, namespace=place, subresource="status", kind=PatchKind.STRATEGIC
            )
        assert {each["type"] for each in changed["status"]["conditions"]} >= {"First", "Second"}

    async def test_a_list_selects_by_fields_and_labels(self, api: KubeApi, place: str) -> None:
        for name, node, colour in (("a", "n1", "red"), ("b", "n2", "red"), ("c", "n1", "blue")):
            await api.create(PODS, pod(name, node=f"{NOWHERE}-{node}", colour=colour), namespace=place)

        async def names(**selectors: Any) -> list[str]:
            found = await api.list(PODS, namespace=place, **selectors)
            assert all((item["kind"], item["apiVersion"]) == ("Pod", "v1") for item in found.items)
            return [item["metadata"]["name"] for item in found.items]

        assert await names() == ["a", "b", "c"]
        assert await names(field_selector=f"spec.nodeName={NOWHERE}-n1") == ["a", "c"]
        assert await names(field_selector="metadata.name=b") == ["b"]
        assert await names(label_selector="colour=red") == ["a", "b"]
        assert await names(label_selector="colour in (blue,green)") == ["c"]
        assert await names(label_selector="!colour") == []
        assert await names(label_selector="colour!=red", field_selector=f"spec.nodeName={NOWHERE}-n1") == ["c"]
        assert len((await api.list(PODS, field_selector=f"spec.nodeName={NOWHERE}-n2")).items) == 1

    async def test_an_eviction_marks_the_pod_and_ends_it_within_its_grace_period(
        self, api: KubeApi, place: str
    ) -> None:
        made = await api.create(PODS, pod("p"), namespace=place)
        running = {"status": {"phase": "Running"}}
        await api.patch(PODS, "p", running, namespace=place, subresource="status")
        with pytest.raises(errors.KubeConflictError):
            await api.evict(place, "p", uid=str(uuid.uuid4()))
        await api.evict(place, "p", uid=made["metadata"]["uid"])
        evicted = await api.get(PODS, "p", namespace=place)
        assert evicted["metadata"]["deletionGracePeriodSeconds"] == 77
        (condition,) = [each for each in evicted["status"]["conditions"] if each["type"] == "DisruptionTarget"]
        assert (condition["status"], condition["reason"]) == ("True", "EvictionByEvictionAPI")
        await api.delete(PODS, "p", namespace=place, grace_period_s=0)
        with pytest.raises(errors.KubeNotFoundError):
            await api.evict(place, "p", uid=made["metadata"]["uid"])

    async def test_a_watch_tells_what_happens_after_a_list(self, api: KubeApi, place: str) -> None:
        await api.create(SECRETS, secret("before"), namespace=place)
        version = (await api.list(SECRETS, namespace=place)).resource_version
        await api.create(SECRETS, secret("a"), namespace=place)
        watch = api.watch(SECRETS, namespace=place, resource_version=version)
        async with aclosing(watch), asyncio.timeout(PATIENCE_S):
            assert (await anext(watch))["type"] == OPEN
            added = await anext(watch)
            assert (added["type"], added["object"]["metadata"]["name"]) == ("ADDED", "a")
            await api.patch(SECRETS, "a", {"metadata": {"labels": {"x": "y"}}}, namespace=place)
            modified = await anext(watch)
            assert (modified["type"], modified["object"]["metadata"]["labels"]) == ("MODIFIED", {"x": "y"})
            await api.delete(SECRETS, "a", namespace=place)
            assert (await anext(watch))["type"] == "DELETED"

    async def test_an_object_that_leaves_the_selection_is_deleted_for_a_watch(
        self, api: KubeApi, place: str
    ) -> None:
        await api.create(SECRETS, secret("a", colour="red"), namespace=place)
        version = (await api.list(SECRETS, namespace=place)).resource_version
        watch = api.watch(SECRETS, namespace=place, label_selector="colour=red", resource_version=version)
        async with aclosing(watch), asyncio.timeout(PATIENCE_S):
            await anext(watch)
            await api.patch(SECRETS, "a", {"metadata": {"labels": {"colour": "blue"}}}, namespace=place)
            assert (await anext(watch))["type"] == "DELETED"
            await api.patch(SECRETS, "a", {"metadata": {"labels": {"colour": "red"}}}, namespace=place)
            assert (await anext(watch))["type"] == "ADDED"

    async def test_a_watch_from_too_long_ago_has_expired(self, api: KubeApi, place: str) -> None:
        with pytest.raises(errors.KubeExpiredError):
            async with aclosing(api.watch(SECRETS, namespace=place, resource_version="1")) as watch:
                async with asyncio.timeout(PATIENCE_S):
                    async for _ in watch:
                        pass

    async def test_a_mirror_follows(self, api: KubeApi, place: str) -> None:
        await api.create(SECRETS, secret("a", word="1"), namespace=place)
        mirror = Mirror(api, SECRETS, word_of, namespace=place, metrics=Metrics())
        task = asyncio.create_task(mirror.run())
        try:
            await mirror.wait_synced(Deadline.after(PATIENCE_S))
            assert mirror.items[f"{place}/a"] == "1"
            with mirror.subscribe() as changes:
                async with asyncio.timeout(PATIENCE_S):
                    assert await anext(changes) == (Change.ADDED, "1")
                    await api.patch(SECRETS, "a", {"metadata": {"labels": {"word": "2"}}}, namespace=place)
                    assert await anext(changes) == (Change.MODIFIED, "2")
                    await api.delete(SECRETS, "a", namespace=place)
                    assert await anext(changes) == (Change.DELETED, "2")
            assert dict(mirror.items) == {}
        finally:
            await stop(task)

    async def test_a_lease_is_made_held_and_given_up(self, api: KubeApi, place: str) -> None:
        acting = asyncio.Event()

        async def act() -> None:
            acting.set()
            await asyncio.Event().wait()

        candidate = Leadership(api, namespace=place, name="l", identity="me", lease_s=6, metrics=Metrics())
        task = asyncio.create_task(candidate.lead(act))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await acting.wait()
                first = (await api.get(LEASES, "l", namespace=place))["spec"]
                assert first["holderIdentity"] == candidate.holder
                assert first["leaseDurationSeconds"] == 6
                renewed = datetime.fromisoformat(first["renewTime"])
                assert abs(datetime.now(UTC) - renewed) < timedelta(seconds=5)
                while await renewed_at(api, place) == first["renewTime"]:  # noqa: ASYNC110 - the server's, not ours
                    await asyncio.sleep(0.1)
        finally:
            await stop(task)
        assert (await api.get(LEASES, "l", namespace=place))["spec"].get("holderIdentity", "") == ""

    async def test_the_same_event_again_is_counted(self, api: KubeApi, place: str) -> None:
        made = await api.create(PODS, pod("p"), namespace=place)
        about = Reference(api_version="v1", kind="Pod", namespace=place, name="p", uid=made["metadata"]["uid"])
        recorder = EventRecorder(api, component="crikpy-test", host="h")
        for _ in range(3):
            recorder.tell(about, "Tried", "It was tried.", warning=True)
        task = asyncio.create_task(recorder.run())
        try:
            events: tuple[Json, ...] = ()
            async with asyncio.timeout(PATIENCE_S):
                while [event["count"] for event in events] != [3]:
                    events = (
                        await api.list(
                            EVENTS, namespace=place, field_selector="involvedObject.name=p,reason=Tried"
                        )
                    ).items
                    await asyncio.sleep(0.05)
        finally:
            await stop(task)
        assert events[0]["message"] == "It was tried."
        assert events[0]["type"] == "Warning"
        assert events[0]["involvedObject"]["uid"] == made["metadata"]["uid"]

    async def test_events_about_nodes_are_taken(self, api: KubeApi, place: str) -> None:
        node = f"{NOWHERE}-{secrets.token_hex(4)}"
        recorder = EventRecorder(api, component="crikpy-test", host=node)
        recorder.tell(Reference(api_version="v1", kind="Node", namespace="", name=node, uid=node), "Tried", place)
        task = asyncio.create_task(recorder.run())
        await asyncio.sleep(0)
        await stop(task)
        found = await api.list(EVENTS, namespace="default", field_selector=f"involvedObject.name={node}")
        (event,) = found.items
        assert event["reason"] == "Tried"
        await api.delete(EVENTS, event["metadata"]["name"], namespace="default")


async def renewed_at(api: KubeApi, place: str) -> Any:
    return (await api.get(LEASES, "l", namespace=place))["spec"]["renewTime"]


def word_of(raw: Json) -> str:
    return str(raw["metadata"]["labels"]["word"])
