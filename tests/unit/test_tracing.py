"""Traces as a real collector is told them: one for each rescue, whoever takes part; none where nobody asks."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from crikpy import log, tracing
from crikpy.aio.threads import Thread
from crikpy.errors import StoreUnavailableError
from tests.fakes.collector import Collector, Told, collecting


@pytest.fixture
def collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting(tmp_path) as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """Put back as they were the loggers that tracing makes quiet."""
    before = {name: logging.getLogger(name).level for name in ("opentelemetry", "urllib3")}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def traced(component: str = "agent", node: str = "") -> contextlib.AbstractContextManager[None]:
    return tracing.traced(component, os.environ, node=node)


def by_name(spans: list[Told]) -> dict[str, Told]:
    assert len({told.name for told in spans}) == len(spans), [told.name for told in spans]
    return {told.name: told for told in spans}


def test_controller_agent_launcher_and_another_node_tell_one_trace(collector: Collector) -> None:
    with traced("controller"), tracing.joined(tracing.derived("ns/order-1")):
        tracing.past("order", began=100.0, ended=100.5)
    with traced("agent", node="node-a"), log.about(pod="ns/train-0"), tracing.rescue("ns/order-1", notice="n1"):
        with tracing.act("save"):
            log.learn(checkpoint="c1")
            with tracing.step("freeze"):
                tracing.past("hold", tracing.LAUNCHER, began=1.0)
        carried = tracing.carried()
    with traced("agent", node="node-b"), tracing.act("resume", carried), tracing.step("claim"):
        pass
    spans = by_name(collector.spans())
    assert len({told.trace for told in spans.values()}) == 1
    parents = {
        name: next((up.name for up in spans.values() if up.span == told.parent), "")
        for name, told in spans.items()
    }
    assert parents == {
        "rescue": "",
        "order": "rescue",
        "save": "rescue",
        "freeze": "save",
        "hold": "freeze",
        "resume": "rescue",
        "claim": "resume",
    }
    assert {name: told.service for name, told in spans.items() if name in ("order", "hold", "save")} == {
        "order": "crikpy-controller",
        "hold": "crikpy-launcher",
        "save": "crikpy-agent",
    }
    assert (spans["order"].start, spans["order"].end) == (100_000_000_000, 100_500_000_000)
    assert spans["save"].resource["k8s.node.name"] == "node-a"
    assert spans["resume"].resource["k8s.node.name"] == "node-b"
    about = {"k8s.pod.name": "train-0", "k8s.namespace.name": "ns", "crikpy.checkpoint": "c1"}
    assert spans["save"].attributes.items() >= about.items()
    assert spans["rescue"].attributes["crikpy.notice"] == "n1"


def test_steps_of_threads_and_what_goes_on_beside_steps_are_parts_of_the_act(collector: Collector) -> None:
    def work() -> None:
        with tracing.step("in a thread"):
            pass

    with traced(), tracing.act("save"):
        with tracing.step("freeze"):
            upload = tracing.start("upload")
            thread = Thread(work, name="worker")
            thread.start()
            thread.join(30)
        upload.note(bytes=7)
        upload.end()
        upload.end()
    spans = by_name(collector.spans())
    assert spans["upload"].parent == spans["save"].span
    assert spans["upload"].attributes == {"crikpy.bytes": 7}
    assert spans["in a thread"].parent == spans["freeze"].span


def test_what_is_no_part_of_a_rescue_is_not_told(collector: Collector) -> None:
    with traced():
        with tracing.step("alone"), tracing.joined(""), tracing.step("nowhere"):
            tracing.past("before", began=1.0)
            tracing.start("beside").end()
        with tracing.act("known by this"):
            pass
    assert [told.name for told in collector.spans()] == ["known by this"]


def test_a_failure_is_told_with_its_class_and_without_secrets(collector: Collector) -> None:
    fault = StoreUnavailableError("asked https://me:secret@host", remedy="look")
    with traced(), tracing.act("save"), pytest.raises(StoreUnavailableError), tracing.step("store"):
        raise fault
    spans = by_name(collector.spans())
    assert spans["store"].error == "asked https://***@host (look)"
    assert spans["store"].attributes["error.type"] == StoreUnavailableError.reason
    assert spans["store"].attributes["crikpy.exit_code"] == StoreUnavailableError.exit_code
    assert spans["save"].error == ""


def test_records_of_a_rescue_name_its_trace(collector: Collector) -> None:
    stream, root = io.StringIO(), logging.getLogger()
    before, level = list(root.handlers), root.level
    log.set_up(as_json=True, stream=stream)
    try:
        with traced(), log.about(pod="ns/a"), tracing.rescue("ns/order-1"), tracing.act("save"):
            logging.getLogger("x").info("so")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert json.loads(stream.getvalue())["trace_id"] == collector.spans()[0].trace


def test_a_ratio_is_decided_alike_by_all_who_take_part(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    orders = [f"ns/order-{number}" for number in range(32)]
    for component in ("controller", "agent"):
        with traced(component):
            for order in orders:
                if component == "agent":
                    with tracing.rescue(order):
                        pass
                else:
                    with tracing.joined(tracing.derived(order)):
                        tracing.past("order", began=1.0)
    spans = collector.spans()
    told = {name: {each.trace for each in spans if each.name == name} for name in ("rescue", "order")}
    assert told["rescue"] == told["order"]
    assert 0 < len(told["order"]) < len(orders)


@pytest.mark.parametrize("listens", [False, True], ids=["nobody listens", "nobody answers"])
def test_a_dead_collector_neither_fails_nor_holds_up_anything(
    monkeypatch: pytest.MonkeyPatch, listens: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        if listens:
            plug.listen()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{plug.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "300")
        with traced(), tracing.rescue(), tracing.act("save"):
            for _ in range(5000):  # more than the queue holds
                with tracing.step("step"):
                    pass
        left = [thread.name for thread in threading.enumerate()]
        assert "crikpy-traces" in left, "whoever sends the last spans was waited for"
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


@pytest.mark.parametrize(
    ("environ", "asked"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_standard_variables_say_whether_there_are_traces(environ: dict[str, str], asked: bool) -> None:
    assert tracing.wanted(environ) is asked


def test_a_protocol_that_we_do_not_speak_is_said_and_nothing_is_traced(caplog: pytest.LogCaptureFixture) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with tracing.traced("agent", environ), tracing.rescue("ns/order-1"):
        assert tracing.carried() == ""
    assert "http/protobuf only, and not grpc" in caplog.text


_IMPORTED = "sorted(name for name in sys.modules if name.split('.')[0] in ('opentelemetry', 'google'))"


def test_nothing_of_opentelemetry_is_imported_unless_asked_for() -> None:
    code = f"import sys, crikpy.cli.main, crikpy.agent.process, crikpy.controller.process; print({_IMPORTED})"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run((sys.executable, "-c", code), env=environ, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_where_opentelemetry_is_not_installed_a_rescue_goes_on_and_it_is_said() -> None:
    code = (
        "import sys, logging; sys.modules['opentelemetry'] = None; from crikpy import log, tracing\n"
        "log.set_up(as_json=False)\n"
        "with tracing.traced('run', {'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://x:4318'}), tracing.rescue():\n"
        "    print('rescued')\n"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, timeout=60)
    assert done.stdout == "rescued\n"
    assert "install crikpy[telemetry]" in done.stderr
