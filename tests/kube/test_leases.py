"""At most one leads, whatever happens to the API server, the network and the leader's own work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from crikpy.aio.tasks import stop
from crikpy.kube.api import KubeApi
from crikpy.kube.client import KubeClient
from crikpy.kube.leases import Leadership
from crikpy.kube.resources import LEASES
from crikpy.metrics import Metrics
from tests.fakes.kube import FakeKube
from tests.kube.relay import Relay

LEASE_S = 1.2


class Stage:
    """Where candidates act; it sees who does, and that nobody does beside another."""

    def __init__(self) -> None:
        self.acting: list[str] = []
        self.history: list[str] = []
        self.overlapped = False

    async def play(self, name: str, ends_in_s: float = 0.0) -> None:
        self.acting.append(name)
        self.history.append(f"{name} begins")
        self.overlapped |= len(self.acting) > 1
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(ends_in_s)
            self.acting.remove(name)
            self.history.append(f"{name} ends")


@pytest.fixture
def stage() -> Stage:
    return Stage()


class Candidate:
    """One replica."""

    def __init__(self, api: KubeApi, stage: Stage, name: str, *, ends_in_s: float = 0.0) -> None:
        self.metrics = Metrics()
        self.leadership = Leadership(
            api, namespace="ns", name="l", identity=name, lease_s=LEASE_S, metrics=self.metrics
        )
        self.task = asyncio.create_task(self.leadership.lead(lambda: stage.play(name, ends_in_s)))

    def leading(self) -> float | None:
        return self.metrics.registry.get_sample_value("crikpy_leading")


@contextlib.asynccontextmanager
async def standing(api: KubeApi, stage: Stage, name: str, *, ends_in_s: float = 0.0) -> AsyncIterator[Candidate]:
    candidate = Candidate(api, stage, name, ends_in_s=ends_in_s)
    try:
        yield candidate
    finally:
        await stop(candidate.task)


async def more_requests(kube: FakeKube, verb: str, count: int) -> None:
    enough = len(kube.seen(verb, "leases")) + count
    await kube.until(lambda: len(kube.seen(verb, "leases")) >= enough)


def spec(kube: FakeKube) -> Any:
    lease = kube.get(LEASES, "l", namespace="ns")
    assert lease is not None
    return lease["spec"]


async def test_the_first_makes_the_lease_and_the_second_waits(
    kube: FakeKube, api: KubeClient, stage: Stage
) -> None:
    async with standing(api, stage, "a") as a:
        await kube.until(lambda: stage.acting == ["a"])
        made = spec(kube)
        assert made["holderIdentity"] == a.leadership.holder
        assert made["holderIdentity"].startswith("a_")
        assert (made["leaseDurationSeconds"], made["leaseTransitions"]) == (2, 0)
        assert a.leading() == 1
        async with standing(api, stage, "b") as b:
            await more_requests(kube, "get", 20)
            assert stage.history == ["a begins"]
            assert b.leading() == 0
    assert stage.history == ["a begins", "a ends"]


async def test_times_are_utc_with_six_digits(kube: FakeKube, api: KubeClient, stage: Stage) -> None:
    async with standing(api, stage, "a"):
        await kube.until(lambda: stage.acting)
        for field in ("acquireTime", "renewTime"):
            text = spec(kube)[field]
            assert len(text) == len("2026-01-02T03:04:05.678901Z")
            assert abs((datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()) < 60


async def test_a_leader_that_goes_gives_the_lease_up(kube: FakeKube, api: KubeClient, stage: Stage) -> None:
    async with standing(api, stage, "a") as a:
        await kube.until(lambda: stage.acting == ["a"])
        await stop(a.task)
        assert stage.history == ["a begins", "a ends"]
        assert a.leading() == 0
        assert spec(kube)["holderIdentity"] == ""
        async with standing(api, stage, "b"):
            await kube.until(lambda: stage.acting == ["b"])
            assert spec(kube)["leaseTransitions"] == 1
            assert spec(kube)["leaseDurationSeconds"] == 2


async def test_the_lease_is_given_up_only_after_the_act_has_ended(
    kube: FakeKube, api: KubeClient, stage: Stage
) -> None:
    async with standing(api, stage, "a", ends_in_s=2 * LEASE_S) as a:
        await kube.until(lambda: stage.acting == ["a"])
        async with standing(api, stage, "b"):
            a.task.cancel()
            await kube.until(lambda: stage.acting == ["b"])
            assert stage.history == ["a begins", "a ends", "b begins"]
    assert not stage.overlapped


async def test_a_leader_without_the_api_server_stops_acting_and_comes_back(
    kube: FakeKube, api: KubeClient, stage: Stage
) -> None:
    async with standing(api, stage, "a") as a, standing(api, stage, "b"):
        await kube.until(lambda: stage.acting)
        await kube.stop()
        await kube.until(lambda: not stage.acting)
        assert a.leading() == 0
        assert not a.task.done()
        await kube.start()
        await kube.until(lambda: stage.acting)
    assert not stage.overlapped
    assert len(stage.history) == 4


async def test_a_leader_that_is_cut_off_has_stopped_before_another_leads(
    kube: FakeKube, api: KubeClient, stage: Stage, tmp_path: Path
) -> None:
    port = int(kube.endpoint.rsplit(":", 1)[1])
    async with Relay.serving(port) as relay:
        far = kube.settings(tmp_path, kubeconfig=str(kube.kubeconfig(tmp_path, endpoint=relay.endpoint)))
        async with await KubeClient.connect(far) as cut, standing(cut, stage, "cut", ends_in_s=0.2):
            await kube.until(lambda: stage.acting == ["cut"])
            async with standing(api, stage, "b"):
                relay.swallow()
                await kube.until(lambda: stage.acting == ["b"])
                relay.mend()  # what was held back arrives now, renewals included
                await more_requests(kube, "get", 10)
                assert stage.acting == ["b"]
    assert stage.history[:3] == ["cut begins", "cut ends", "b begins"]
    assert not stage.overlapped


async def test_a_dead_leader_is_followed_whatever_its_clock_said(
    kube: FakeKube, api: KubeClient, stage: Stage
) -> None:
    dead = {
        "holderIdentity": "dead",
        "leaseDurationSeconds": 1,
        "renewTime": "2099-01-01T00:00:00.000000Z",
        "acquireTime": "2099-01-01T00:00:00.000000Z",
        "leaseTransitions": 7,
        "fieldOfTomorrow": None,
    }
    kube.put(LEASES, {"metadata": {"name": "l", "namespace": "ns", "labels": {"x": "y"}}, "spec": dead})
    async with standing(api, stage, "a"):
        await kube.until(lambda: stage.acting == ["a"])
        assert spec(kube)["leaseTransitions"] == 8
        lease = kube.get(LEASES, "l", namespace="ns")
        assert lease is not None
        assert lease["metadata"]["labels"] == {"x": "y"}


async def test_a_leader_that_renews_with_an_old_clock_stays_leader(
    kube: FakeKube, api: KubeClient, stage: Stage
) -> None:
    old = {"holderIdentity": "other", "leaseDurationSeconds": 2, "leaseTransitions": 0}
    async with standing(api, stage, "a"):
        for number in range(30):
            when = {"renewTime": f"1999-01-01T00:00:{number:02}.000000Z"}
            kube.put(LEASES, {"metadata": {"name": "l", "namespace": "ns"}, "spec": old | when})
            await asyncio.sleep(0.1)
        assert stage.history == []


@pytest.mark.parametrize("body", [{}, {"spec": None}, {"spec": {"holderIdentity": None}}])
async def test_a_lease_that_nobody_holds_is_taken(
    kube: FakeKube, api: KubeClient, stage: Stage, body: dict[str, Any]
) -> None:
    kube.put(LEASES, {"metadata": {"name": "l", "namespace": "ns"}, **body})
    async with standing(api, stage, "a") as a:
        await kube.until(lambda: stage.acting == ["a"])
        assert spec(kube)["holderIdentity"] == a.leadership.holder


async def test_a_leader_whose_lease_another_holds_stops_acting(
    kube: FakeKube, api: KubeClient, stage: Stage
) -> None:
    async with standing(api, stage, "a"):
        await kube.until(lambda: stage.acting == ["a"])
        kube.update(LEASES, "l", {"spec": {"holderIdentity": "usurper"}}, namespace="ns")
        await kube.until(lambda: not stage.acting)
        assert spec(kube)["holderIdentity"] == "usurper"


@pytest.mark.parametrize("trouble", ["lose", "reset", "500", "409"])
async def test_one_failed_renewal_costs_nothing(
    kube: FakeKube, api: KubeClient, stage: Stage, trouble: str
) -> None:
    async with standing(api, stage, "a"):
        await kube.until(lambda: stage.acting == ["a"])
        for _ in range(3):
            kube.trouble(trouble, verb="replace", times=1)
            await more_requests(kube, "replace", 3)
        assert stage.history == ["a begins"]


async def test_of_many_candidates_one_leads(kube: FakeKube, api: KubeClient, stage: Stage) -> None:
    candidates = [Candidate(api, stage, f"c{number}") for number in range(8)]
    try:
        for _ in range(3):
            await kube.until(lambda: len(stage.acting) == 1)
            leader = next(each for each in candidates if each.leadership.leading)
            await stop(leader.task)
            candidates.remove(leader)
        assert not stage.overlapped
    finally:
        for candidate in candidates:
            await stop(candidate.task)


async def test_an_act_that_fails_ends_the_candidate_and_frees_the_lease(kube: FakeKube, api: KubeClient) -> None:
    async def fail() -> None:
        raise LookupError("a bug")

    metrics = Metrics()
    leadership = Leadership(api, namespace="ns", name="l", identity="a", lease_s=LEASE_S, metrics=metrics)
    with pytest.raises(LookupError, match="a bug"):
        await leadership.lead(fail)
    assert spec(kube)["holderIdentity"] == ""
    assert not leadership.leading


async def test_an_act_that_ends_ends_the_candidate(kube: FakeKube, api: KubeClient) -> None:
    async def end() -> None:
        return None

    leadership = Leadership(api, namespace="ns", name="l", identity="a", lease_s=LEASE_S, metrics=Metrics())
    await leadership.lead(end)
    assert spec(kube)["holderIdentity"] == ""


async def test_a_candidate_that_is_cancelled_while_waiting_leaves_the_lease_alone(
    kube: FakeKube, api: KubeClient, stage: Stage
) -> None:
    async with standing(api, stage, "a") as a:
        await kube.until(lambda: stage.acting == ["a"])
        async with standing(api, stage, "b"):
            await more_requests(kube, "get", 4)
        assert spec(kube)["holderIdentity"] == a.leadership.holder
        assert stage.acting == ["a"]
