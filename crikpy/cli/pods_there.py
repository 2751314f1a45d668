"""What saving the pods of a cluster would cost: from their objects, kubelet's summaries and the agents' metrics.

Nothing is written, and agents tell no more than before: the summary of each node and the metrics of each agent are
read through the API server's proxy, by whoever may. What may not be read is shown as unknown.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from crikpy import names
from crikpy.agent.planning import Rates
from crikpy.agent.sizing import Past, estimate
from crikpy.cli.costs import Cost, assumed_rates, listing, seconds_of
from crikpy.cli.watching import Listing
from crikpy.errors import KubeForbiddenError
from crikpy.kube import raw
from crikpy.kube.client import KubeClient
from crikpy.kube.pods import parse_pod
from crikpy.kube.requesting import list_orders
from crikpy.kube.resources import PODS
from crikpy.kube.scraping import Usage, scrape_metrics, scrape_usage
from crikpy.kube.verdicts import list_verdicts, refusals
from crikpy.model.orders import Order
from crikpy.model.pods import Pod
from crikpy.settings import Settings

_READ = 'crikpy_dump_throughput_bytes_per_second{path="read"}'
_WRITE = 'crikpy_dump_throughput_bytes_per_second{path="write"}'


async def pods_there(api: KubeClient, settings: Settings, namespace: str, name: str) -> Listing:
    """Look at the opted-in pods of a namespace, of all when that is empty; at one where a name is given.

    Raises:
        KubeError: pods or orders could not be read.
    """
    found = map(parse_pod, (await api.list(PODS, namespace=namespace)).items)
    pods = [pod for pod in found if pod.opted_in and not pod.over and (not name or pod.name == name)]
    orders = await list_orders(api, namespace)
    usage = await scrape_usage(api, {pod.node for pod in pods if pod.node})
    used = {uid: one for node in usage.used.values() for uid, one in node.items()}
    rates, unread = await _rates(api, settings, {pod.node for pod in pods})
    refused = await _refused(api, namespace)
    costs = [_cost(pod, used.get(pod.uid), orders, rates.get(pod.node), refused, settings) for pod in pods]
    foot = tuple(f"not everything could be read: {why}" for why in dict.fromkeys((usage.unread, unread)) if why)
    return listing(costs, empty="no pod that opted in runs", foot=foot)


def _cost(
    pod: Pod,
    usage: Usage | None,
    orders: Iterable[Order],
    rates: Rates | None,
    refused: Mapping[str, str],
    settings: Settings,
) -> Cost:
    past = _past(pod, orders)
    held = usage.anonymous if usage else None
    if held is not None and past is not None:
        held = max(held, past.memory)  # what was saved the last time counts files, too
    size = estimate(held, past, time.monotonic()) if held is not None or past is not None else None
    why = refused.get(pod.uid) or pod.fault or ("" if pod.injected else "it runs without the launcher")
    if not why and (pod.phase != "Running" or pod.deleting):
        why = "it is being deleted" if pod.deleting else f"it is {pod.phase}"
    return Cost(
        job=f"pod/{pod.name}",
        node=pod.node,
        namespace=pod.namespace,
        memory_bytes=usage.anonymous if usage else None,
        processes=usage.processes if usage else None,
        stored_bytes=size.memory - size.new if size else None,
        write_bytes=size.new if size else None,
        seconds=seconds_of(size, rates or assumed_rates(settings)) if size else None,
        rates="measured" if rates else "assumed",
        last_s=(datetime.now(UTC) - past.completed).total_seconds() if past else None,
        able=not why,
        why=why,
    )


def _past(pod: Pod, orders: Iterable[Order]) -> Past | None:
    """Return the last checkpoint of a pod, as its Checkpoint objects tell of it."""
    done = sorted(
        (
            (order.status.completed, order)
            for order in orders
            if order.spec.pod_uid == pod.uid and order.status.checkpoint and order.status.completed
        ),
        key=lambda pair: pair[0],
    )
    if not done:
        return None
    completed, last = done[-1]
    sizes, ago_s = last.status.bytes, (datetime.now(UTC) - completed).total_seconds()
    return Past(
        completed=completed,
        at=time.monotonic() - ago_s,
        memory=sizes.memory,
        new=max(0, sizes.memory - sizes.reused),
        held=sizes.memory,
        since_s=(completed - done[-2][0]).total_seconds() if len(done) > 1 else None,
    )


async def _rates(api: KubeClient, settings: Settings, nodes: set[str]) -> tuple[dict[str, Rates], str]:
    """Return what agents have measured, by node; nodes whose agent has measured nothing are left out."""
    home = settings.controller.namespace
    try:
        pods = await api.list(PODS, namespace=home, label_selector=f"app={names.AGENT}")
    except KubeForbiddenError as fault:
        return {}, fault.message
    where = {
        raw.text(raw.mapping(pod.get("metadata")).get("name")): raw.text(
            raw.mapping(pod.get("spec")).get("nodeName")
        )
        for pod in pods.items
    }
    asked = [name for name, node in where.items() if node in nodes]
    scraped = await scrape_metrics(api, home, asked, settings.agent.port)
    assumed = assumed_rates(settings)
    rates = {
        where[name]: replace(assumed, read=read, write=figures.get(_WRITE) or assumed.write)
        for name, figures in scraped.metrics.items()
        if (read := figures.get(_READ))
    }
    return rates, scraped.unread


async def _refused(api: KubeClient, namespace: str) -> dict[str, str]:
    """Return why agents say that pods cannot be saved, by UID; empty where events may not be read."""
    try:
        return refusals(await list_verdicts(api, namespace=namespace))
    except KubeForbiddenError:
        return {}
