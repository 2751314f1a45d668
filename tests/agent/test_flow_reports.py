"""What a flow says is logged, counted, and told on the pod where only its owner can help."""

from __future__ import annotations

import asyncio
import logging

import pytest

from crikpy.agent.reporting import Teller
from crikpy.kube.client import KubeClient
from crikpy.kube.events import EventRecorder
from crikpy.kube.pods import parse_pod
from crikpy.metrics import Metrics
from crikpy.model.streams import TransferProgress
from tests.agent.cluster import NAMESPACE, NODE, events, put_pod, running
from tests.fakes.kube import FakeKube


async def test_a_job_that_has_lost_its_gpus_is_told_on_its_pod_from_any_thread(
    kube: FakeKube, api: KubeClient
) -> None:
    recorder = EventRecorder(api, component="crikpy-agent", host=NODE)
    teller = Teller(api, recorder, Metrics(), node=NODE)
    reporter = teller.reporter(parse_pod(put_pod(kube, "p")))
    async with running(recorder.run()):
        await asyncio.to_thread(reporter.event, "frozen", "the job stands still")
        await asyncio.to_thread(reporter.event, "gpu-lost", "the job runs on without its GPUs")
        await kube.until(lambda: events(kube, "p"))
    assert events(kube, "p") == [("Warning", "GpuStateLost")]


async def test_a_flow_is_logged_with_its_pod_and_its_bytes_are_counted_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    metrics = Metrics()
    api = object()
    teller = Teller(api, object(), metrics, node=NODE)  # type: ignore[arg-type]  # neither is spoken with
    pod = parse_pod({"metadata": {"namespace": NAMESPACE, "name": "p", "uid": "u"}})
    reporter = teller.reporter(pod, order="o")
    for wire in (100, 250, 40):
        reporter.transfer("upload", TransferProgress(plain_bytes=wire, wire_bytes=wire))
    reporter.event("frozen", "the job stands still", at=1.0, module="odd")
    counted = metrics.registry.get_sample_value("crikpy_transferred_bytes_total", {"direction": "upload"})
    assert counted == 290
    record = caplog.records[-1]
    facts = vars(record)
    assert (facts["pod"], facts["order"], facts["at"], facts["fact_module"]) == (f"{NAMESPACE}/p", "o", 1.0, "odd")
