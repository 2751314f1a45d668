"""How quickly orders stand when many nodes are interrupted at once, and what the controller costs meanwhile.

    hack/bench controller [--nodes N,…] [--source condition|queue] [--output json]

For each number of nodes, with ten annotated pods each, half of the nodes are interrupted evenly within a minute.
The API server and etcd are real; there are no kubelets and no agents, so orders stay as they are made. What is
measured for each pod is the time from the moment at which the notice begins to be written (as its agent would, or
into the queue) until a watch of the benchmark's own shows its order. The API server, etcd, the controller and the
benchmark share this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from apiserver import api_server, free_port
from measuring import Row, Spread, Table, machine, publish
from population import (
    PODS_PER_NODE,
    ROOT,
    announce,
    clear,
    instance_of,
    node_name,
    pods_of,
    populate,
    prepare,
    spot_notice,
)

sys.path.insert(0, str(ROOT))
from crikpy.aio.tasks import stop
from crikpy.kube.client import KubeClient
from crikpy.kube.resources import CHECKPOINTS
from crikpy.settings import KubeSettings
from tests.fakes.aws import REGION, FakeAws

_STORM_S = 60.0
_LATE_S = 60.0
"""How long after a storm its last order may come before the benchmark gives up."""

_SEES = "the whole cluster is in sight"
_MIB = 1 << 20


@dataclass(frozen=True)
class Storm:
    """What one storm showed.

    Attributes:
        nodes: of the cluster; half of them were interrupted.
        orders: pods for which an order came.
        missing: pods for which none came.
        least_s: the shortest of the times from notice to order, seconds.
        p50_s: their median.
        p99_s: their 99th percentile.
        longest_s: the longest.
        start_s: from the controller's start until it saw the whole cluster.
        start_mib: its resident memory then.
        peak_mib: its highest resident memory.
        start_cpu_s: CPU time until it saw the whole cluster.
        storm_cpu_s: CPU time from then to the last order.
    """

    nodes: int
    orders: int
    missing: int
    least_s: float
    p50_s: float
    p99_s: float
    longest_s: float
    start_s: float
    start_mib: float
    peak_mib: float
    start_cpu_s: float
    storm_cpu_s: float


@dataclass
class Controller:
    """A controller that runs.

    Attributes:
        process: it.
        start_s: until it saw the whole cluster.
    """

    process: psutil.Process
    start_s: float

    def cpu_s(self) -> float:
        """Return the CPU time that it has used."""
        used = self.process.cpu_times()
        return used.user + used.system

    def resident_mib(self) -> float:
        """Return its resident memory."""
        return self.process.memory_info().rss / _MIB

    def peak_mib(self) -> float:
        """Return the highest resident memory that it ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


@contextlib.contextmanager
def controller(kubeconfig: Path, log: Path, environment: dict[str, str]) -> Iterator[Controller]:
    """Run a controller until the context ends; yield once it sees the whole cluster."""
    settings = {
        "CRIKPY_KUBE_KUBECONFIG": str(kubeconfig),
        "CRIKPY_CONTROLLER_ADDRESS": "127.0.0.1",
        "CRIKPY_CONTROLLER_PORT": str(free_port()),
        "CRIKPY_CONTROLLER_WEBHOOK_PORT": str(free_port()),
    }
    began = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("crikpy")), "controller"],
            cwd=ROOT,
            env={**os.environ, **settings, **environment},
            stdout=file,
            stderr=file,
        )
        try:
            while _SEES not in log.read_text():
                if process.poll() is not None or time.monotonic() > began + 120:
                    raise SystemExit(f"the controller does not see the cluster:\n{log.read_text()[-2000:]}")
                time.sleep(0.05)
            yield Controller(psutil.Process(process.pid), time.monotonic() - began)
        finally:
            process.terminate()
            process.wait(30)


class Arrivals:
    """When each pod's order was seen."""

    def __init__(self) -> None:
        self.seen: dict[str, float] = {}

    async def watch(self, api: KubeClient, version: str) -> None:
        """Note every order that is made from now on."""
        async for event in api.watch(CHECKPOINTS, resource_version=version):
            if event["type"] == "ADDED":
                self.seen.setdefault(event["object"]["spec"]["podName"], time.monotonic())


@contextlib.asynccontextmanager
async def arrivals(api: KubeClient) -> AsyncIterator[Arrivals]:
    """Watch orders until the context ends."""
    found, noted = await api.list(CHECKPOINTS), Arrivals()
    task = asyncio.create_task(noted.watch(api, found.resource_version))
    await asyncio.sleep(0.5)
    yield noted
    await stop(task)


async def storm(api: KubeClient, numbers: Sequence[int], queue: tuple[FakeAws, str] | None) -> dict[str, float]:
    """Interrupt nodes evenly within a minute; return when each one's notice began to be written."""
    begun: dict[str, float] = {}
    began = time.monotonic()

    async def interrupt(place: int, number: int) -> None:
        await asyncio.sleep(max(0.0, began + place * _STORM_S / len(numbers) - time.monotonic()))
        begun[node_name(number)] = time.monotonic()
        if queue is None:
            await announce(api, number, spot_notice(number))
        else:
            await asyncio.to_thread(queue[0].send, queue[1], warning_of(number))

    async with asyncio.TaskGroup() as group:
        for place, number in enumerate(numbers):
            group.create_task(interrupt(place, number))
    return begun


def warning_of(number: int) -> dict[str, Any]:
    """Return EventBridge's event of a spot interruption."""
    return {
        "version": "0",
        "id": f"event-{number}-{time.time_ns()}",
        "detail-type": "EC2 Spot Instance Interruption Warning",
        "source": "aws.ec2",
        "account": "123456789012",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "region": REGION,
        "resources": [],
        "detail": {"instance-id": instance_of(number), "instance-action": "terminate"},
    }


async def measure(kubeconfig: Path, folder: Path, nodes: int, source: str) -> Storm:
    """Have half of so many nodes interrupted, and return what that showed."""
    async with contextlib.AsyncExitStack() as stack:
        settings = KubeSettings(kubeconfig=str(kubeconfig))
        api = await stack.enter_async_context(await KubeClient.connect(settings))
        queue = stack.enter_context(_queue()) if source == "queue" else None
        environment = {} if queue is None else {**queue[0].environment, "CRIKPY_SOURCES_QUEUE_URL": queue[1]}
        running = stack.enter_context(controller(kubeconfig, folder / f"controller-{nodes}.log", environment))
        await asyncio.sleep(2)
        start_mib, start_cpu_s = running.resident_mib(), running.cpu_s()
        noted = await stack.enter_async_context(arrivals(api))
        numbers = range(0, nodes, 2)
        begun = await storm(api, numbers, queue)
        pods = pods_of(numbers)
        late = time.monotonic() + _LATE_S
        while noted.seen.keys() < pods.keys() and time.monotonic() < late:  # noqa: ASYNC110 - a watch notes them
            await asyncio.sleep(0.1)
        waited = sorted(noted.seen[pod] - begun[node] for pod, node in pods.items() if pod in noted.seen)
        shown = Storm(
            nodes=nodes,
            orders=len(waited),
            missing=len(pods) - len(waited),
            least_s=waited[0],
            p50_s=statistics.median(waited),
            p99_s=waited[min(len(waited) - 1, int(len(waited) * 0.99))],
            longest_s=waited[-1],
            start_s=running.start_s,
            start_mib=start_mib,
            peak_mib=running.peak_mib(),
            start_cpu_s=start_cpu_s,
            storm_cpu_s=running.cpu_s() - start_cpu_s,
        )
    async with await KubeClient.connect(settings) as api:
        await clear(api, numbers)
    return shown


@contextlib.contextmanager
def _queue() -> Iterator[tuple[FakeAws, str]]:
    with FakeAws() as aws:
        yield aws, aws.make_queue()


async def measure_all(kubeconfig: Path, folder: Path, sizes: Sequence[int], source: str) -> list[Storm]:
    """Measure a cluster that grows."""
    shown: list[Storm] = []
    there = 0
    for nodes in sizes:
        async with await KubeClient.connect(KubeSettings(kubeconfig=str(kubeconfig))) as api:
            if not there:
                await prepare(api)
            await populate(api, range(there, nodes))
        there = nodes
        shown.append(await measure(kubeconfig, folder, nodes, source))
        _say(shown[-1])
    return shown


def table_of(storms: Sequence[Storm], source: str) -> Table:
    """Return what is published of them."""
    return Table(
        key=f"controller-{source}",
        title="From a notice to an order" + (", by the queue" if source == "queue" else ""),
        command=f"hack/bench controller --source {source}",
        machine=machine(),
        rows=[
            Row(
                f"{one.nodes:,} nodes, {one.nodes * PODS_PER_NODE:,} pods, {one.orders:,} orders",
                1,
                {
                    "seconds": Spread(one.least_s, one.p50_s, one.longest_s),
                    "99th percentile s": _once(one.p99_s),
                    "missing": _once(one.missing),
                    "MiB at rest": _once(one.start_mib),
                    "MiB at most": _once(one.peak_mib),
                    "CPU s to start": _once(one.start_cpu_s),
                    "CPU s in the storm": _once(one.storm_cpu_s),
                },
            )
            for one in storms
        ],
    )


def _once(value: float) -> Spread:
    return Spread(value, value, value)


def _say(one: Storm) -> None:
    print(
        f"{one.nodes:>6}{one.nodes * PODS_PER_NODE:>8}{one.nodes // 2:>8}{one.orders:>8}{one.missing:>8}"
        f"{one.p50_s:>8.2f}{one.p99_s:>8.2f}{one.longest_s:>8.2f}{one.start_s:>9.1f}"
        f"{one.start_mib:>8.0f}{one.peak_mib:>8.0f}{one.start_cpu_s:>8.1f}{one.storm_cpu_s:>8.1f}",
        file=sys.stderr,
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="hack/bench controller", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", default="100,300,1000", help="sizes of the cluster (default: %(default)s)")
    parser.add_argument("--source", choices=("condition", "queue"), default="condition")
    chosen = parser.parse_args()
    sizes = sorted(int(size) for size in chosen.nodes.split(","))
    print(f"notice by {chosen.source} to order, half of the nodes within a minute ({machine()})", file=sys.stderr)
    print(
        f"{'nodes':>6}{'pods':>8}{'storm':>8}{'orders':>8}{'missing':>8}{'p50 s':>8}{'p99 s':>8}{'max s':>8}"
        f"{'start s':>9}{'MiB':>8}{'peak':>8}{'CPU s':>8}{'storm':>8}",
        file=sys.stderr,
    )
    with tempfile.TemporaryDirectory(prefix="crikpy-bench-") as name:
        folder = Path(name)
        with api_server(folder) as server:
            shown = asyncio.run(measure_all(server.kubeconfig, folder, sizes, chosen.source))
    publish(table_of(shown, chosen.source))


if __name__ == "__main__":
    main()
