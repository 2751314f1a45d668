"""What agents, controllers and kubelets tell of themselves beside their objects, by proxies of the API server.

Nobody writes anything for it, and nobody serves more than before: it costs one request for each node that is asked
about, by whoever may ask it (`pods/proxy`, `nodes/proxy`). What cannot be read is left out, with the first reason.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from crikpy.aio.clock import Deadline
from crikpy.errors import KubeError
from crikpy.kube import raw
from crikpy.kube.client import KubeClient
from crikpy.kube.raw import Json
from crikpy.kube.resources import NODES, PODS

_T = TypeVar("_T")
_AT_ONCE: Final = 8
_EACH_S: Final = 5.0
_SAMPLE: Final = re.compile(r"^(crikpy_\w+(?:\{[^}]*\})?) (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scraped:
    """What could be read.

    Attributes:
        metrics: by the pod's name: figures by metric with its labels, such as `crikpy_leading`.
        used: by the node's name: what kubelet's summary says of its pods, by their UIDs.
        unread: the first reason why something could not be read; empty when all could.
    """

    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    used: Mapping[str, Mapping[str, Usage]] = field(default_factory=dict)
    unread: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the containers of a pod use, as kubelet says.

    Attributes:
        anonymous: bytes of memory that no file stands behind.
        processes: how many; None where kubelet does not say.
    """

    anonymous: int
    processes: int | None


async def scrape_metrics(api: KubeClient, namespace: str, pods: Iterable[str], port: int) -> Scraped:
    """Read the metrics of some pods of crikpy's; never raises for one that does not answer."""
    paths = {
        name: PODS.path(namespace=namespace, name=f"{name}:{port}", subresource="proxy/metrics") for name in pods
    }
    found, unread = await _read_all(api, paths, parse_metrics)
    return Scraped(metrics=found, unread=unread)


async def scrape_usage(api: KubeClient, nodes: Iterable[str]) -> Scraped:
    """Read kubelet's summary of some nodes; never raises for one that does not answer."""
    paths = {name: NODES.path(name=name, subresource="proxy/stats/summary") for name in nodes}
    found, unread = await _read_all(api, paths, parse_summary)
    return Scraped(used=found, unread=unread)


def parse_metrics(text: bytes) -> dict[str, float]:
    """Return our figures of a page of metrics by name and labels; lines of others and odd ones are left out."""
    found = {}
    for name, value in _SAMPLE.findall(text.decode(errors="replace")):
        try:
            found[name] = float(value)
        except ValueError:
            continue
    return found


def parse_summary(text: bytes) -> dict[str, Usage]:
    """Return what kubelet's summary says of pods, by UID; empty when it is none."""
    try:
        summary = raw.mapping(json.loads(text))
    except ValueError:
        return {}
    return {
        raw.text(raw.mapping(pod.get("podRef")).get("uid")): _usage(pod) for pod in raw.items(summary.get("pods"))
    }


def _usage(pod: Json) -> Usage:
    memories = [raw.mapping(container.get("memory")) for container in raw.items(pod.get("containers"))]
    processes = raw.mapping(pod.get("process_stats")).get("process_count")
    return Usage(
        anonymous=sum(raw.number(memory.get("rssBytes")) for memory in memories),
        processes=raw.number(processes) if processes else None,
    )


async def _read_all(
    api: KubeClient, paths: Mapping[str, str], parse: Callable[[bytes], _T]
) -> tuple[dict[str, _T], str]:
    gate = asyncio.Semaphore(_AT_ONCE)
    faults: list[str] = []

    async def read(name: str, path: str) -> tuple[str, _T] | None:
        async with gate:
            try:
                return name, parse(await api.read(path, deadline=Deadline.after(_EACH_S)))
            except KubeError as fault:
                faults.append(fault.message)
                return None

    read_ones = await asyncio.gather(*(read(name, path) for name, path in paths.items()))
    return dict(one for one in read_ones if one is not None), faults[0] if faults else ""
