"""Launchers are attended to from their appearance to their end, and nobody else is mistaken for one."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from dataclasses import replace

import pytest

from crikpy import names
from crikpy.agent.sessions import Activity, CapsuleSession, PodSession
from crikpy.errors import CapsuleError, LauncherError
from crikpy.kube.pods import parse_pod
from crikpy.model.capsule import JobPhase
from crikpy.model.pods import PodOptions
from tests.agent.agents import ends, expect, prove
from tests.agent.listening import Listener, start
from tests.agent.node import FakeNode
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.criu

until = FakeKube.until


def _gauge(listener: Listener, phase: JobPhase) -> float | None:
    return listener.metrics.registry.get_sample_value("crikpy_capsules", {"phase": phase})


def _activity(session: PodSession) -> Activity:
    return session.activity


def _term_pending(capsule: CapsuleSession) -> bool:
    return capsule.term_pending


async def test_a_launcher_is_found_and_its_job_followed_to_its_end(node: FakeNode) -> None:
    async with Listener(node).listening() as listener:
        pod = node.pod()
        job = await pod.run()
        await listener.hears("ready", pod)
        capsule = listener.capsule(pod)
        session = listener.sessions.pods[pod.uid]
        assert (capsule.pod_uid, capsule.container) == (pod.uid, "main")
        assert capsule.launcher_pid == job.launcher_pid
        assert capsule.phase is JobPhase.WAITING
        assert _activity(session) is Activity.WAITING
        assert not session.begun
        assert _gauge(listener, JobPhase.WAITING) == 1
        await start(job)
        assert (await capsule.refresh()).phase is JobPhase.RUNNING
        job.signal(signal.SIGUSR2)
        await listener.hears("ended 0", pod)
        assert _activity(session) is Activity.ENDED
        assert not session.capsules
        assert capsule.ended_status == 0
        assert _gauge(listener, JobPhase.WAITING) == 0
        with pytest.raises(LauncherError):
            await capsule.refresh()
        shutil.rmtree(pod.directory)
        await until(lambda: f"gone {pod.uid}" in listener.told)
        assert not listener.sessions.pods


async def test_a_running_job_is_found_as_such(node: FakeNode) -> None:
    pod = node.pod()
    await start(await pod.run())
    async with Listener(node).listening() as listener:
        await listener.hears("running", pod)
        session = listener.sessions.pods[pod.uid]
        assert session.begun
        assert session.activity is Activity.RUNNING
        assert not any(word.startswith("ready") for word in listener.told)


async def test_a_job_that_its_launcher_starts_by_itself_is_known_to_run(node: FakeNode) -> None:
    async with Listener(node).listening() as listener:
        pod = node.pod()
        job = await pod.run(agent_wait_s=1)
        await listener.hears("ready", pod)
        await expect(job, "ready")
        await listener.hears("running", pod)
        assert listener.sessions.pods[pod.uid].activity is Activity.RUNNING
        assert listener.sessions.pods[pod.uid].begun


async def test_a_killed_launcher_tells_no_status_and_the_next_one_is_a_new_session(node: FakeNode) -> None:
    async with Listener(node).listening() as listener:
        pod = node.pod()
        first = await pod.run()
        await listener.hears("ready", pod)
        before = listener.capsule(pod)
        os.kill(first.launcher_pid, signal.SIGKILL)
        await listener.hears("ended None", pod)
        second = await pod.run()
        await listener.hears("ready", pod, times=2)
        after = listener.capsule(pod)
        assert after is not before
        assert after.launcher_pid == second.launcher_pid != first.launcher_pid
        assert (await after.refresh()).phase is JobPhase.WAITING


async def test_an_exit_status_comes_as_a_shell_shows_it(node: FakeNode) -> None:
    async with Listener(node).listening() as listener:
        pod = node.pod(job=("/bin/sh", "-c", "exit 7"))
        job = await pod.run()
        await listener.hears("ready", pod)
        await asyncio.to_thread(job.start)
        await listener.hears("ended 7", pod)


async def test_a_sigterm_is_told_once_until_it_is_answered(node: FakeNode) -> None:
    async with Listener(node).listening() as listener:
        pod = node.pod()
        job = await pod.run()
        await listener.hears("ready", pod)
        await start(job)
        job.signal(signal.SIGTERM)
        await listener.hears("term", pod)
        capsule = listener.capsule(pod)
        assert capsule.phase is JobPhase.RUNNING, "the session has heard that the job runs"
        assert _term_pending(capsule)
        await capsule.refresh()
        await asyncio.sleep(0.2)
        assert listener.told.count(f"term {pod.uid}/main") == 1
        await capsule.hold_term()
        assert not _term_pending(capsule)
        job.signal(signal.SIGTERM)
        await listener.hears("term", pod, times=2)
        await asyncio.sleep(2.5)  # longer than an unanswered one is kept
        assert await prove(job) == "proved 1"
        await capsule.pass_term()
        await listener.hears(f"ended {128 + signal.SIGTERM}", pod)
        assert await ends(job) == 128 + signal.SIGTERM


async def test_a_sigterm_that_nobody_answers_goes_on(node: FakeNode) -> None:
    async with Listener(node).listening() as listener:
        pod = node.pod()
        job = await pod.run()
        await listener.hears("ready", pod)
        await start(job)
        job.signal(signal.SIGTERM)
        await listener.hears(f"ended {128 + signal.SIGTERM}", pod)
        assert await ends(job) == 128 + signal.SIGTERM


async def test_a_socket_nobody_listens_at_is_looked_at_again(node: FakeNode) -> None:
    pod = node.pod()
    first = await pod.run()
    os.kill(first.launcher_pid, signal.SIGKILL)
    await ends(first)
    async with Listener(node).listening() as listener:
        await asyncio.sleep(0.5)
        assert not listener.told
        await pod.run()
        await listener.hears("ready", pod)


async def test_what_goes_wrong_for_one_pod_is_no_other_pods(
    node: FakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(pod: PodSession, capsule: CapsuleSession) -> None:
        raise ZeroDivisionError(f"a defect for {pod.uid}")

    listener = Listener(node)
    listener.acts["ready"] = fail
    async with listener.listening():
        pods = [node.pod("left"), node.pod("right")]
        jobs = [await pod.run() for pod in pods]
        for pod, job in zip(pods, jobs, strict=True):
            await listener.hears("ready", pod)
            await start(job)
            job.signal(signal.SIGTERM)
            await listener.hears("term", pod)
            await listener.capsule(pod).pass_term()
            await listener.hears(f"ended {128 + signal.SIGTERM}", pod)
    assert caplog.text.count("ZeroDivisionError: a defect for") == 2


async def test_what_was_begun_for_a_pod_is_ended_with_the_agent(node: FakeNode) -> None:
    ended = asyncio.Event()

    async def wait_for_ever(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    listener = Listener(node)
    listener.acts["ready"] = wait_for_ever
    async with listener.listening():
        pod = node.pod()
        job = await pod.run()
        await listener.hears("ready", pod)
    assert ended.is_set()
    assert job.phase() is JobPhase.WAITING


async def test_a_capsule_is_not_closed_while_somebody_works_on_its_pod(node: FakeNode) -> None:
    async with Listener(node).listening() as listener:
        pod = node.pod()
        job = await pod.run()
        await listener.hears("ready", pod)
        session, capsule = listener.sessions.pods[pod.uid], listener.capsule(pod)
        async with session.lock:
            os.kill(job.launcher_pid, signal.SIGKILL)
            await until(lambda: not session.capsules)
            assert capsule.socket.is_socket()
            assert not any(word.startswith("ended") for word in listener.told)
        await listener.hears("ended None", pod)
        assert not capsule.socket.is_socket()


# The pod as the flows take it.


async def test_members_are_the_containers_below_a_launcher_with_what_they_carry(node: FakeNode) -> None:
    words: dict[str, tuple[object, ...]] = {"left": ("memory", 2, 1), "right": ("memory", 2, 1)}
    volumes = {"left": {"/data": "work", "/tmp/x": "skip"}, "right": {"/in": "work"}}
    pod = node.pod(containers=words, volumes=volumes)
    known = replace(parse_pod(pod.body()), options=PodOptions(excluded_volumes=("skip",)))
    listener = Listener(node, {pod.uid: known})
    async with listener.listening():
        await pod.run("left")
        await listener.hears("ready", pod, "left")
        session = listener.sessions.pods[pod.uid]
        with pytest.raises(CapsuleError, match="no launcher answers in right"):
            session.members(node.settings)
        right = await pod.run("right")
        await listener.hears("ready", pod, "right")
        members = session.members(node.settings)
        assert [member.workload.name for member in members] == ["pod-job-0.left", "pod-job-0.right"]
        assert members[0].capsule.carried == ("/data",)
        assert members[0].capsule.excluded == (names.LAUNCHER_DIR, "/tmp/x")
        assert members[1].capsule.carried == ()
        assert members[1].capsule.excluded == (names.LAUNCHER_DIR, "/in")
        assert members[1].capsule.launcher_pid == right.launcher_pid
        assert members[0].command[-3:] == ("tests.jobs.memory", "2", "1")


async def test_nothing_is_made_of_a_pod_that_nobody_knows(node: FakeNode) -> None:
    async with Listener(node).listening() as listener:
        pod = node.pod()
        await pod.run()
        await listener.hears("ready", pod)
        with pytest.raises(CapsuleError, match="nothing is known yet"):
            listener.sessions.pods[pod.uid].members(node.settings)
