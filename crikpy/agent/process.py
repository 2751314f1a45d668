"""The node's process, put together: who hears what, what runs for as long as the agent does, and how it ends.

Nothing that is out of reach at the beginning keeps the agent from beginning: a node whose API server or store is
away for a while has jobs all the same. What is configured wrongly does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from crikpy import names
from crikpy.agent.checking import Checker
from crikpy.agent.discarding import Discarder
from crikpy.agent.finishing import Finisher
from crikpy.agent.labelling import Labels
from crikpy.agent.nodepods import NodePods
from crikpy.agent.noticing import NodeNotices
from crikpy.agent.orders import Orders
from crikpy.agent.outlook import OwnNode
from crikpy.agent.readiness import Readiness
from crikpy.agent.reporting import Teller
from crikpy.agent.retention import Retention
from crikpy.agent.saving import Saver
from crikpy.agent.sessions import NodeSessions, PodSession
from crikpy.agent.starting import Starter
from crikpy.agent.terminating import Terminator
from crikpy.aio.clock import Deadline
from crikpy.aio.serving import Server, probe_routes
from crikpy.aio.threads import Pool
from crikpy.ec2.imds import MetadataClient
from crikpy.errors import MetadataError, UsageError
from crikpy.flows.saving import Member
from crikpy.kube.api import KubeApi
from crikpy.kube.client import KubeClient
from crikpy.kube.events import EventRecorder
from crikpy.metrics import Component, Metrics
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from crikpy.store.counting import CountingStore
from crikpy.store.opening import open_store

_log = logging.getLogger(__name__)

_THREADS: Final = 32
_ENDS_S: Final = 25.0
"""How long dumps and restores that are under way may take once the agent has to end; below Kubernetes' 30 s."""

_FLUSH_S: Final = 2.0
_STOPS_S: Final = 3.0
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0


async def run_agent(settings: Settings, store_url: str, end: asyncio.Event) -> bool:
    """Work until the event is set, then end in order.

    Dumps and restores that are under way get some time. Saved jobs that wait for their end run on: connections of
    this process hold them, and whoever comes next saves them again if their node still goes away.

    Returns:
        Whether everything has ended; else threads still work for jobs, and the process must be left without them.

    Raises:
        UsageError: the node's name or the store is missing or wrong, or there is no configuration for Kubernetes.
        SettingsError: the memory does not suffice for any transfer, or the table of signs cannot be read.
    """
    if not settings.agent.node:
        raise UsageError("the name of this node is not known", remedy="give --node, or set CRIKPY_AGENT_NODE")
    if not store_url:
        raise UsageError("there is no store for checkpoints", remedy="give --store, or set CRIKPY_STORE")
    metrics = Metrics(Component.AGENT)
    store = CountingStore(open_store(store_url, settings.store), metrics)
    asyncio.get_running_loop().set_default_executor(Pool(_THREADS, thread_name_prefix="agent"))
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(await KubeClient.connect(settings.kube))
        metadata = await stack.enter_async_context(MetadataClient(settings.notices))
        agent = _Agent(api, metadata, store, settings, metrics, await _instance(metadata, settings))
        routes = probe_routes(agent.metrics, agent.readiness.complaint)
        server = Server(routes, address=settings.agent.address, port=settings.agent.port)
        await stack.enter_async_context(server)
        _log.info("the agent works", extra={"node": settings.agent.node, "store": store.url, "port": server.port})
        agent.begin()
        await end.wait()
        _log.info("the agent ends")
        return await agent.end(Deadline.after(_ENDS_S))


class _Agent:
    """All parts of the agent, tied together."""

    def __init__(
        self,
        api: KubeApi,
        metadata: MetadataClient,
        store: ObjectStore,
        settings: Settings,
        metrics: Metrics,
        instance: str,
    ) -> None:
        node = settings.agent.node
        self.metrics = metrics
        self._events = EventRecorder(api, component=names.FIELD_MANAGER_AGENT, host=node)
        self._teller = Teller(api, self._events, self.metrics, node=node)
        self.readiness = Readiness(store, self._teller, self.metrics, settings)
        self._pods = NodePods(api, settings.agent, self.metrics)
        self._sessions = NodeSessions(settings, self._pods, self.metrics)
        self._saver = Saver(store, settings, self._teller, self.metrics, on_complete=self._on_complete)
        self._saver.instance = instance
        self._retention = Retention(store, lambda: self._saver.busy)
        self._discarder = Discarder(api, store, self._teller, self.metrics, settings, instance=instance)
        self._notices = NodeNotices(self._sessions.pods, self._saver, self._teller, self.metrics, settings)
        self._metadata = metadata
        self._orders = Orders(
            api, self._sessions.pods, self._pods, self._saver, self._teller, self.metrics, settings
        )
        self._starter = Starter(
            api, self._pods, store, self._notices, self._teller, self.metrics, settings, instance=instance
        )
        self._sessions.on_ready = self._starter.start
        self._sessions.on_running = Checker(store, self._teller, settings).watch
        self._own_node = OwnNode(api, settings, self.metrics)
        terminator = Terminator(api, self._saver, self._notices, self._own_node, settings)
        self._sessions.on_term = terminator.on_term
        self._sessions.on_ended = Finisher(
            api, self._pods, store, self._notices, settings, instance=instance
        ).finish
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self) -> None:
        """Begin everything that goes on for as long as the agent does."""
        acts: dict[str, Callable[[], Awaitable[None]]] = {
            "events": self._events.run,
            "telling": self._teller.run,
            "pods": self._pods.run,
            "sessions": self._sessions.run,
            "notices": lambda: self._notices.run(self._metadata),
            "node": self._own_node.run,
            "labels": Labels(self._teller, self._own_node).run,
            "orders": self._orders.run,
            "readiness": self.readiness.run,
            "retention": self._retention.run,
            "deletions": self._discarder.run,
        }
        self._tasks = {name: asyncio.create_task(_for_ever(name, act), name=name) for name, act in acts.items()}

    async def end(self, deadline: Deadline) -> bool:
        """Take nothing new, let what is under way come to its end, tell what is left to tell."""
        sessions, telling, events = (self._tasks.pop(name) for name in ("sessions", "telling", "events"))
        await _stop([*self._tasks.values()], _STOPS_S)
        await self._saver.stop(deadline)
        ended = await _stop([sessions], max(_STOPS_S, deadline.remaining()))
        self._starter.close()
        await _stop([telling], _STOPS_S)
        await self._teller.flush(Deadline.after(_FLUSH_S))
        await _stop([events], _STOPS_S)
        return ended and self._saver.idle

    def _on_complete(self, session: PodSession, members: Sequence[Member]) -> None:
        pod = session.pod
        if pod is not None and pod.options is not None and not pod.fault:
            workloads = [member.workload for member in members]
            self._retention.thin_out(pod.uid, workloads, pod.options.keep, group=pod.group, member=pod.workload)


async def _for_ever(name: str, act: Callable[[], Awaitable[None]]) -> None:
    """Do something that never ends by itself, again after a pause if it does: the other parts must not suffer."""
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            await act()
            _log.error("%s have ended by themselves, a defect in crikpy", name)
        except Exception:  # noqa: BLE001  # whatever it is, the rest goes on
            _log.exception("%s have failed of a defect in crikpy", name)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def _stop(tasks: Sequence[asyncio.Task[None]], within_s: float) -> bool:
    """Cancel tasks and wait for their end; return whether it has come in time."""
    for task in tasks:
        task.cancel()
    if not tasks:
        return True
    _, late = await asyncio.wait(tasks, timeout=within_s)
    for task in late:
        _log.warning("%s take too long to end", task.get_name())
    return not late


async def _instance(metadata: MetadataClient, settings: Settings) -> str:
    """Return the EC2 instance id, or nothing where no metadata service says it."""
    if not settings.notices.imds_enabled:
        return ""
    try:
        return await metadata.instance_id()
    except MetadataError as fault:
        _log.warning("this machine's instance id is not known: %s", fault)
        return ""
