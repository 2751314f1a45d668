"""What is told of a pod that a notice moves: records that say whose they are, one trace of all who take part."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from crikpy import names
from crikpy.kube.resources import CHECKPOINTS, PODS
from crikpy.model.orders import OrderPhase
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from tests.agent.conftest import MakeNode
from tests.agent.node import NAMESPACE
from tests.agent.programs import CRIKPY, Program, program
from tests.agent.whole import Desk, ends, runs, signal_all, until
from tests.fakes.collector import Told, collecting
from tests.fakes.imds import FakeImds
from tests.fakes.kube import FakeKube

pytestmark = pytest.mark.criu

STATEFUL = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "11111111-2222"}


_SAVED = ("frozen", "streamed", "committed")
_RESUMED = ("claimed", "resumed")


async def test_a_pod_that_a_notice_moves_is_told_of_by_all_who_take_part(
    make_node: MakeNode, kube: FakeKube, store: ObjectStore, folder: Path
) -> None:
    here, there, desk = make_node("node-a"), make_node("node-b"), Desk(kube)
    old = here.pod("web-0", owner=STATEFUL, job=("memory", 8, 1))
    with collecting(folder) as collector, _controller(here.settings, collector.environment, folder):
        async with FakeImds().serving() as imds:
            heard = {**collector.environment, **_listening(imds)}
            with program(here, store, env=heard) as first:
                await runs(old)
                await until(first.port, "the agent at work")
                imds.spot(action="terminate", in_s=120)
                await until(lambda: "deletionTimestamp" in _metadata(kube, old.name), "the pod's eviction")
                signal_all(old)
                assert await ends(old.jobs["main"]) == 75
                (order,) = kube.all(CHECKPOINTS)
                collector.await_spans(lambda spans: {"rescue", "evict"} <= {told.name for told in spans})
        kube.remove(PODS, old.name, namespace=NAMESPACE)
        with program(there, store, env=collector.environment) as second:
            new = there.pod("web-0", owner=STATEFUL, job=("memory", 8, 1))
            await new.run()
            status = await desk.reaches(order["metadata"]["name"], OrderPhase.RESTORED)
            spans = collector.await_spans(lambda spans: "resume" in {told.name for told in spans})
    _require_one_trace(spans, order["metadata"], status.checkpoint)
    _require_lines(first, "node-a", old.uid, _SAVED, status.checkpoint, spans[0].trace)
    _require_lines(second, "node-b", new.uid, _RESUMED, status.checkpoint, spans[0].trace)
    ended = next(line for line in first.lines() if line["message"] == "the saved jobs have ended here")
    assert (ended["pod"], ended["checkpoint"]) == (f"{NAMESPACE}/web-0", status.checkpoint)


def _require_lines(
    agent: Program, node: str, uid: str, events: tuple[str, ...], checkpoint: str, trace: str
) -> None:
    lines = agent.lines()
    assert {(line["component"], line["node"]) for line in lines} == {("agent", node)}
    of_flow = {str(line["event"]): line for line in lines if "event" in line}
    for event in events:
        line = of_flow[event]
        assert (line["pod"], line["namespace"], line["pod_uid"]) == (f"{NAMESPACE}/web-0", NAMESPACE, uid)
        assert (line["workload"], line["checkpoint"]) == ("sts-web-0", checkpoint)
        assert line["trace_id"] == trace


def _require_one_trace(spans: list[Told], order: Mapping[str, Any], checkpoint: str) -> None:
    told = {(each.service, each.name): each for each in spans}
    rescue = told["crikpy-agent", "rescue"]
    assert {each.trace for each in spans} == {rescue.trace}
    assert order["annotations"][names.TRACEPARENT] == f"00-{rescue.trace}-{rescue.span}-01"
    above = {each.span: each.name for each in spans}
    assert {key: above.get(each.parent, "") for key, each in told.items()}.items() >= {
        ("crikpy-agent", "rescue"): "",
        ("crikpy-controller", "order"): "rescue",
        ("crikpy-controller", "evict"): "rescue",
        ("crikpy-agent", "save"): "rescue",
        ("crikpy-agent", "stand still"): "rescue",
        ("crikpy-agent", "resume"): "rescue",
        ("crikpy-launcher", "adopt"): "adopt",
    }.items()
    assert ("crikpy-launcher", "hold") in told
    for key in (("crikpy-agent", "save"), ("crikpy-agent", "resume"), ("crikpy-controller", "evict")):
        attributes = told[key].attributes
        assert (attributes["k8s.pod.name"], attributes["k8s.namespace.name"]) == ("web-0", NAMESPACE)
        assert (attributes["crikpy.workload"], attributes["crikpy.checkpoint"]) == ("sts-web-0", checkpoint)
    nodes = [told["crikpy-agent", name].resource["k8s.node.name"] for name in ("save", "resume")]
    assert nodes == ["node-a", "node-b"]
    assert rescue.attributes["crikpy.trigger"] == "SpotInterruption"


def _metadata(kube: FakeKube, pod: str) -> dict[str, object]:
    found = kube.get(PODS, pod, namespace=NAMESPACE)
    return dict(found["metadata"]) if found else {}


def _listening(imds: FakeImds) -> dict[str, str]:
    return {
        "CRIKPY_NOTICES_IMDS_ENABLED": "true",
        "CRIKPY_NOTICES_IMDS_ENDPOINT": imds.endpoint,
        "CRIKPY_NOTICES_POLL_INTERVAL_S": "0.1",
    }


@contextlib.contextmanager
def _controller(settings: Settings, env: Mapping[str, str], folder: Path) -> Iterator[None]:
    """Have a controller run as a program."""
    with (folder / "controller.log").open("wb") as log:
        process = subprocess.Popen(
            (CRIKPY, "controller"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={
                "PATH": os.environ["PATH"],
                "CRIKPY_KUBE_KUBECONFIG": settings.kube.kubeconfig,
                "CRIKPY_CONTROLLER_ADDRESS": "127.0.0.1",
                "CRIKPY_CONTROLLER_PORT": str(_free_port()),
                "CRIKPY_CONTROLLER_WEBHOOK_PORT": str(_free_port()),
                **env,
            },
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return int(plug.getsockname()[1])
