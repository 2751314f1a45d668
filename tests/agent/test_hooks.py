"""Pods whose jobs hear of their checkpoints, or save themselves: what their agent does, and what it tells."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from crikpy import names
from crikpy.kube.resources import EVENTS, PODS
from crikpy.model.capsule import JobPhase
from crikpy.model.orders import OrderPhase
from crikpy.store.base import ObjectStore
from tests.agent.agents import expect, records
from tests.agent.node import NAMESPACE, FakeNode, NodePod
from tests.agent.whole import Desk, at_work, checkpoints_of, ends, proves, runs, settings_of, until
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.criu

ITSELF = {names.MODE: "application", names.APPLICATION_DIRECTORY: "/data"}
VOLUMES = {"main": {"/data": "work"}}


@pytest.fixture
def desk(kube: FakeKube) -> Desk:
    return Desk(kube)


def _saves_itself(node: FakeNode, *how: str, name: str = "job-0", **more: str) -> NodePod:
    annotations = {**ITSELF, **more}
    return node.pod(name, job=("selfsaving", "/data", *how), annotations=annotations, volumes=VOLUMES)


def _message(kube: FakeKube, reason: str) -> str:
    return str(next(event["message"] for event in kube.all(EVENTS) if event["reason"] == reason))


async def test_a_job_is_told_of_its_checkpoints_and_a_callback_that_fails_is_an_event(
    node: FakeNode, store: ObjectStore, desk: Desk, kube: FakeKube
) -> None:
    pod = node.pod(
        job=("hooked", "failing"), annotations={names.HOOK_TIMEOUT: "5s", names.SIGNAL_BEFORE: "SIGHUP"}
    )
    async with at_work(settings_of(node), store):
        await runs(pod)
        job = pod.jobs["main"]
        await desk.reaches(desk.order(pod, leave_running=True), OrderPhase.COMPLETE)
        assert await expect(job, "heard ") == "heard checkpoint"
        assert (await expect(job, "heard ")).startswith("heard continued")
        await until(lambda: {"HookFailed", "SignalNotSent"} <= set(desk.events(pod.name)), "the events")
        assert "RuntimeError: cannot?say why" in _message(kube, "HookFailed")
        assert "SIGHUP" in _message(kube, "SignalNotSent")
        await proves(job)


async def test_a_pod_that_saves_itself_ends_at_its_eviction_and_its_successor_finds_its_files(
    node: FakeNode, store: ObjectStore, desk: Desk, kube: FakeKube
) -> None:
    pod = _saves_itself(node)
    async with at_work(settings_of(node, spare_s=60.0), store):
        await runs(pod)
        job = pod.jobs["main"]
        await proves(job)
        status = await desk.reaches(desk.order(pod), OrderPhase.COMPLETE)
        assert status.mode == "application"
        assert "by itself" in status.message
        assert job.phase() is JobPhase.ENDED  # and its launcher is held
        desk.terminate(pod, disruption="EvictionByEvictionAPI")
        assert await ends(job) == names.EXIT_CHECKPOINTED
        kube.remove(PODS, pod.name, namespace=NAMESPACE)
        heir = _saves_itself(node)
        await heir.run()
        assert await expect(heir.jobs["main"], "ready") == "ready at 1"
        await until(lambda: "Restored" in desk.events(heir.name), "that it goes on")
        heir.jobs["main"].signal(signal.SIGUSR2)
        assert await ends(heir.jobs["main"]) == 0


async def test_a_pod_that_has_saved_itself_ends_when_its_node_is_spared_and_can_be_resumed(
    node: FakeNode, store: ObjectStore, desk: Desk, folder: Path
) -> None:
    pod = _saves_itself(node)
    async with at_work(settings_of(node, spare_s=0.5), store):
        await runs(pod)
        status = await desk.reaches(desk.order(pod), OrderPhase.COMPLETE)
        assert await ends(pod.jobs["main"]) == names.EXIT_CHECKPOINTED
    assert checkpoints_of(store) == [status.checkpoint]
    assert not records(folder, "claim.json")


async def test_a_pod_that_is_evicted_is_asked_to_save_itself(
    node: FakeNode, store: ObjectStore, desk: Desk
) -> None:
    pod = _saves_itself(node)
    async with at_work(settings_of(node), store):
        await runs(pod)
        desk.terminate(pod, disruption="EvictionByEvictionAPI")
        assert await ends(pod.jobs["main"]) == names.EXIT_CHECKPOINTED
    assert len(checkpoints_of(store)) == 1


async def test_a_job_that_fails_to_save_itself_ends_with_its_own_status_and_its_order_says_so(
    node: FakeNode, store: ObjectStore, desk: Desk, kube: FakeKube
) -> None:
    pod = _saves_itself(node, "worse")
    async with at_work(settings_of(node), store):
        await runs(pod)
        status = await desk.reaches(desk.order(pod), OrderPhase.FAILED)
        assert status.reason == "SelfSaveFailed"
        assert await ends(pod.jobs["main"]) == 3
        await until(lambda: "CheckpointFailed" in desk.events(pod.name), "the event")
        assert "runs on" not in _message(kube, "CheckpointFailed")


async def test_what_was_saved_before_of_a_job_that_fails_to_save_itself_is_left_to_be_resumed(
    node: FakeNode, store: ObjectStore, desk: Desk, folder: Path
) -> None:
    pod = _saves_itself(node, "call", "once")
    async with at_work(settings_of(node), store):
        await runs(pod)
        first = await desk.reaches(desk.order(pod, "first", leave_running=True), OrderPhase.COMPLETE)
        await desk.reaches(desk.order(pod, "second"), OrderPhase.FAILED)
        assert await ends(pod.jobs["main"]) == 3
    assert checkpoints_of(store) == [first.checkpoint]
    assert not records(folder, "claim.json")


async def test_a_job_that_criu_cannot_save_is_said_to_save_itself_and_does(
    node: FakeNode, store: ObjectStore, desk: Desk, kube: FakeKube
) -> None:
    pod = _saves_itself(node, "packets", **{names.MODE: "auto"})
    async with at_work(settings_of(node), store):
        await runs(pod)
    async with at_work(settings_of(node, spare_s=60.0), store):  # which looks at a job that has begun
        await until(lambda: "CanBeSaved" in desk.events(pod.name), "how it would be saved")
        assert "would save itself (mode application)" in _message(kube, "CanBeSaved")
        running_on = await desk.reaches(desk.order(pod, "first", leave_running=True), OrderPhase.FAILED)
        assert "on_save" in running_on.message
        status = await desk.reaches(desk.order(pod, "second"), OrderPhase.COMPLETE)
        assert status.mode == "application"
        await until(lambda: "SavesItself" in desk.events(pod.name), "that it was asked to")
        desk.terminate(pod, disruption="EvictionByEvictionAPI")
        assert await asyncio.wait_for(ends(pod.jobs["main"]), 30) == names.EXIT_CHECKPOINTED
