"""Everything that `crikpy check --cluster` looks at, read once: raw objects, and why others could not be read.

Reads only, and judges nothing: crikpy.kube.judging does that, from what is found here and from nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from crikpy import names
from crikpy.aio.clock import Deadline
from crikpy.errors import KubeError, KubeForbiddenError, KubeNotFoundError
from crikpy.kube import raw
from crikpy.kube.client import KubeClient
from crikpy.kube.raw import Json
from crikpy.kube.resources import (
    CONFIG_MAPS,
    DAEMON_SETS,
    DEFINITIONS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    LEASES,
    MUTATING_WEBHOOKS,
    NAMESPACES,
    NODES,
    PODS,
    VALIDATING_WEBHOOKS,
)
from crikpy.kube.scraping import scrape_metrics
from crikpy.kube.verdicts import list_verdicts
from crikpy.settings import Settings

_T = TypeVar("_T")

DEFINITION: Final = f"checkpoints.{names.DOMAIN}"
_MOST_SCRAPED: Final = 50
"""Agents whose metrics are read; those of a large cluster say the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A picture of a cluster; what is None is not there, or could not be read and is in `unread`.

    Attributes:
        namespace: where crikpy is installed.
        version: what the API server says of itself.
        definition: the CRD.
        home: the namespace's object.
        config: the config map that the agents read.
        daemon_set: the agents.
        deployment: the controllers.
        lease: the controllers' leadership.
        mutating: the webhook's configuration for pods.
        validating: that for templates.
        slices: endpoints of the webhook's service.
        nodes: all nodes.
        pods: all pods.
        events: those that tell that a pod cannot be saved, or can.
        metrics: by the name of an agent's or controller's pod: its figures.
        unread: by the attribute's name: why it could not be read.
    """

    namespace: str
    version: Json | None = None
    definition: Json | None = None
    home: Json | None = None
    config: Json | None = None
    daemon_set: Json | None = None
    deployment: Json | None = None
    lease: Json | None = None
    mutating: Json | None = None
    validating: Json | None = None
    slices: tuple[Json, ...] | None = None
    nodes: tuple[Json, ...] | None = None
    pods: tuple[Json, ...] | None = None
    events: tuple[Json, ...] | None = None
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)


class _Reader:
    def __init__(self, api: KubeClient, namespace: str, deadline: Deadline) -> None:
        self.api, self.namespace, self.deadline = api, namespace, deadline
        self.unread: dict[str, str] = {}

    async def read(self, name: str, asked: Awaitable[_T]) -> _T | None:
        """Return what was asked for; None where it is not there, or may not be read."""
        try:
            return await asked
        except KubeNotFoundError:
            return None
        except KubeForbiddenError as fault:
            self.unread[name] = fault.message
            return None

    async def all(self, name: str, asked: Awaitable[object]) -> tuple[Json, ...] | None:
        found = await self.read(name, asked)
        return None if found is None else tuple(getattr(found, "items", ()))

    async def version(self) -> Json:
        return raw.mapping(json.loads(await self.api.read("/version", deadline=self.deadline)))


async def survey(api: KubeClient, settings: Settings, namespace: str, deadline: Deadline) -> Survey:
    """Look at a cluster.

    Raises:
        KubeUnavailableError: the API server does not answer.
        KubeError: it answers something strange.
    """
    reader = _Reader(api, namespace, deadline)
    read = reader.read
    here: dict[str, Any] = {"namespace": namespace, "deadline": deadline}
    try:
        version = await read("version", reader.version())
    except ValueError as fault:
        raise KubeError("GET /version: the answer is no JSON; is it a Kubernetes API server?") from fault
    daemon_set = await read("daemon_set", api.get(DAEMON_SETS, names.AGENT, **here))
    pods = await reader.all("pods", api.list(PODS, deadline=deadline))
    label = f"kubernetes.io/service-name={names.WEBHOOK}"
    return Survey(
        namespace=namespace,
        version=version,
        definition=await read("definition", api.get(DEFINITIONS, DEFINITION, deadline=deadline)),
        home=await read("home", api.get(NAMESPACES, namespace, deadline=deadline)),
        config=await read("config", api.get(CONFIG_MAPS, config_name(daemon_set), **here)),
        daemon_set=daemon_set,
        deployment=await read("deployment", api.get(DEPLOYMENTS, names.CONTROLLER, **here)),
        lease=await read("lease", api.get(LEASES, names.CONTROLLER, **here)),
        mutating=await read("mutating", api.get(MUTATING_WEBHOOKS, names.WEBHOOK, deadline=deadline)),
        validating=await read("validating", api.get(VALIDATING_WEBHOOKS, names.WEBHOOK, deadline=deadline)),
        slices=await reader.all("slices", api.list(ENDPOINT_SLICES, label_selector=label, **here)),
        nodes=await reader.all("nodes", api.list(NODES, deadline=deadline)),
        pods=pods,
        events=await read("events", list_verdicts(api, deadline=deadline)),
        metrics=await _metrics(reader, pods or (), settings),
        unread=reader.unread,
    )


def config_name(daemon_set: Json | None) -> str:
    """Return the name of the config map that the agents read; a kustomization may have given it a suffix."""
    for container in raw.items(_template(daemon_set).get("containers")):
        for source in raw.items(container.get("envFrom")):
            if name := raw.text(raw.mapping(source.get("configMapRef")).get("name")):
                return name
    return "crikpy-config"


def pods_of(pods: tuple[Json, ...], namespace: str, app: str) -> dict[str, Json]:
    """Return crikpy's own running pods of one kind, by name."""
    return {
        raw.text(raw.mapping(pod.get("metadata")).get("name")): pod
        for pod in pods
        if raw.mapping(pod.get("metadata")).get("namespace") == namespace
        and raw.string_map(raw.mapping(pod.get("metadata")).get("labels")).get("app") == app
        and raw.mapping(pod.get("status")).get("phase") == "Running"
    }


async def _metrics(reader: _Reader, pods: tuple[Json, ...], settings: Settings) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for app, port in ((names.AGENT, settings.agent.port), (names.CONTROLLER, settings.controller.port)):
        ours = sorted(pods_of(pods, reader.namespace, app))[:_MOST_SCRAPED]
        scraped = await scrape_metrics(reader.api, reader.namespace, ours, port)
        found |= {name: dict(figures) for name, figures in scraped.metrics.items()}
        if scraped.unread:
            reader.unread["metrics"] = scraped.unread
    return found


def _template(workload: Json | None) -> Json:
    spec = raw.mapping(raw.mapping(workload).get("spec"))
    return raw.mapping(raw.mapping(spec.get("template")).get("spec"))
