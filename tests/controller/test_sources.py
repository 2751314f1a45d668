"""Which sources are on, and what the controller says of each at its start."""

from __future__ import annotations

import asyncio
import logging

import pytest

from crikpy.aio.tasks import stop
from crikpy.controller.sources import sources_of, watch_sources
from crikpy.errors import SettingsError
from crikpy.metrics import Metrics
from crikpy.settings import Settings, SignalSettings, SourceSettings
from tests.ec2.conftest import aws, aws_server  # noqa: F401
from tests.fakes.aws import REGION, FakeAws


async def said(settings: Settings, metrics: Metrics, caplog: pytest.LogCaptureFixture, lines: int) -> list[str]:
    """Return what is said of the sources at the start."""
    caplog.set_level(logging.INFO, "crikpy")
    async with sources_of(settings, metrics) as sources:
        watching = asyncio.create_task(watch_sources(sources, settings, metrics))
        async with asyncio.timeout(20):
            while len(_of_sources(caplog)) < lines:  # noqa: ASYNC110 - a log tells nobody
                await asyncio.sleep(0.01)
        await stop(watching)
    return sorted(_of_sources(caplog))


def _of_sources(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("source ")]


async def test_each_source_has_one_line_whether_it_is_on_or_off(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    lines = await said(Settings(), metrics, caplog, 4)
    assert [line.partition(",")[0] for line in lines] == [
        "source agents: on",
        "source nodes: on",
        "source poll: off (CRIKPY_SOURCES_POLL_ENABLED)",
        "source queue: off (CRIKPY_SOURCES_QUEUE_URL)",
    ]
    assert "crikpy_source_working{" not in metrics.render()


async def test_what_is_on_is_tried(aws: FakeAws, caplog: pytest.LogCaptureFixture) -> None:  # noqa: F811
    metrics, queue = Metrics(), aws.make_queue()
    sources = SourceSettings(queue_url=queue, poll_enabled=True, region=REGION)
    lines = await said(Settings(sources=sources, signals=SignalSettings(enabled=False)), metrics, caplog, 4)
    assert lines == [
        "source agents: on, each node's agent asks its own metadata service",
        "source nodes: off (CRIKPY_SIGNALS_ENABLED)",
        f"source poll: on, EC2 of {REGION} is asked every 15 s",
        f"source queue: on, {queue} answers, 0 messages wait",
    ]
    assert 'crikpy_source_working{source="queue"} 1.0' in metrics.render()
    assert 'crikpy_source_working{source="poll"} 1.0' in metrics.render()


async def test_what_does_not_work_says_why_and_what_to_do(
    aws: FakeAws,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics()
    aws.refuse("DescribeInstanceStatus")
    sources = SourceSettings(
        queue_url=f"{aws.endpoint}/123456789012/nowhere", poll_enabled=True, poll_interval_s=5, region=REGION
    )
    lines = await said(Settings(sources=sources), metrics, caplog, 4)
    poll, queue = lines[-2:]
    assert poll.startswith("source poll: on, but it does not work: AWS refuses DescribeInstanceStatus")
    assert "docs/sources.md" in poll
    assert queue.startswith("source queue: on, but it does not work")
    assert "check CRIKPY_SOURCES_QUEUE_URL" in queue
    assert 'crikpy_source_working{source="queue"} 0.0' in metrics.render()


@pytest.mark.parametrize(
    "settings",
    [
        Settings(sources=SourceSettings(queue_url="interruptions")),
        Settings(signals=SignalSettings(more_taints="nonsense")),
    ],
    ids=["queue", "sign"],
)
async def test_what_is_configured_wrongly_is_refused_at_the_start(settings: Settings) -> None:
    metrics = Metrics()
    with pytest.raises(SettingsError):
        async with sources_of(settings, metrics) as sources:
            await watch_sources(sources, settings, metrics)
