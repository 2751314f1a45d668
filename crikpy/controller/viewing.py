"""The cluster as one immutable picture: all that planning may know, and the questions that every plan asks of it.

A picture is taken again and again; nothing is remembered between two of them, so that a controller that starts in
the middle of an interruption plans as one that saw its beginning.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import TypeVar

from crikpy import names
from crikpy.kube.grouping import groups_of
from crikpy.kube.orders import parse_order
from crikpy.kube.raw import Json, mapping, string_map, texts
from crikpy.kube.signals import SOURCE_PREFIX, Signs, notices_of, read_signs
from crikpy.model.nodes import Node
from crikpy.model.notices import InterruptionNotice, Trigger, foremost
from crikpy.model.orders import Order
from crikpy.model.pods import Pod, PodOptions
from crikpy.settings import Settings

_K = TypeVar("_K")
_T = TypeVar("_T")

_UNHEARD = "NodeStatusUnknown"
"""Reason of the condition Ready once kubelet has stopped reporting (node lifecycle controller)."""

_VANISHES = ("terminate", "stop")
"""Actions after which nothing of the machine's memory is left."""

_STATE = Trigger.NODE_SHUTDOWN
"""What EC2 tells of an instance that has stopped or terminated, with the time when it did so."""

_UNTIMED_LIFE = timedelta(hours=1)
"""How long a notice without a time, heard of from outside of the cluster, is believed; a lifecycle hook waits for
two hours at most unless somebody keeps it."""

_GONE_MARGIN = timedelta(seconds=30)
"""How long after its deadline a silent machine is believed to be gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """The settings that plans depend on.

    Attributes:
        lead: how long before scheduled maintenance pods are saved.
        margin: between an order's deadline and the machine's end.
        spare: how long after a notice's deadline a node that still reports is taken for spared.
        order_ttl: how long a Checkpoint object in a final phase is kept.
        signs: the table of what others put on a node that goes away.
    """

    lead: timedelta
    margin: timedelta
    spare: timedelta
    order_ttl: timedelta
    signs: Signs = None

    @classmethod
    def of(cls, settings: Settings) -> PlanSettings:
        """Take them from all settings.

        Raises:
            SettingsError: the table of signs cannot be read.
        """
        return cls(
            lead=timedelta(seconds=settings.run.scheduled_lead_s),
            margin=timedelta(seconds=settings.controller.margin_s),
            spare=timedelta(seconds=settings.controller.spare_s),
            order_ttl=timedelta(seconds=settings.controller.order_ttl_s),
            signs=read_signs(settings.signals),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownOrder:
    """A Checkpoint object as planning sees it.

    Attributes:
        order: what it says.
        recreates: it holds a bare pod that is still to be made again.
        kept: it bears our finalizer, so that it does not go before we say so.
        discarder: the node whose agent removes what the store holds for it, or empty.
    """

    order: Order
    recreates: bool = False
    kept: bool = False
    discarder: str = ""

    @classmethod
    def read(cls, raw: Json) -> KnownOrder:
        """Read it from its JSON.

        Raises:
            KubeInvalidError: as parse_order.
        """
        metadata = mapping(raw.get("metadata"))
        return cls(
            order=parse_order(raw),
            recreates=names.RECREATE_FROM in mapping(metadata.get("annotations")),
            kept=names.FINALIZER in texts(metadata.get("finalizers")),
            discarder=string_map(metadata.get("labels")).get(names.LABEL_DISCARD_ON, ""),
        )


@dataclass(frozen=True, kw_only=True)
class ClusterView:
    """The picture.

    Attributes:
        now: when it was taken, aware UTC.
        settings: what plans depend on.
        nodes: all nodes by name.
        pods: the opted-in pods by UID.
        orders: all Checkpoint objects that mean something.
        leaving: those that are being deleted, which order nothing any more.
        warned: UIDs of pods about which people have been told that they are not injected.
        strangers: pods of a group that have not opted in, by UID.
        told_apart: UIDs of pods, each with the reason for which people know that its group cannot be saved.
    """

    now: datetime
    settings: PlanSettings
    nodes: Mapping[str, Node]
    pods: Mapping[str, Pod]
    orders: tuple[KnownOrder, ...] = ()
    leaving: tuple[KnownOrder, ...] = ()
    warned: frozenset[str] = frozenset()
    strangers: Mapping[str, Pod] = field(default_factory=dict)
    told_apart: frozenset[tuple[str, str]] = frozenset()

    @cached_property
    def groups(self) -> Mapping[tuple[str, str], tuple[Pod, ...]]:
        """The pods of each group of which one has opted in, by namespace and name; none that have ended."""
        return groups_of((*self.pods.values(), *self.strangers.values()))

    @cached_property
    def pods_by_node(self) -> Mapping[str, tuple[Pod, ...]]:
        """The opted-in pods of each node that has any."""
        return _grouped((pod.node, pod) for pod in self.pods.values() if pod.node)

    @cached_property
    def orders_by_pod(self) -> Mapping[tuple[str, str], tuple[KnownOrder, ...]]:
        """The orders for each pod that ever had one, by namespace and UID.

        Whoever may make orders in one namespace has no say in another: an order that names a pod elsewhere is for
        no pod.
        """
        return _grouped(((known.order.namespace, known.order.spec.pod_uid), known) for known in self.orders)

    def orders_of(self, pod: Pod) -> tuple[KnownOrder, ...]:
        """Return the orders for a pod."""
        return self.orders_by_pod.get((pod.namespace, pod.uid), ())

    def pod_of(self, order: Order) -> Pod | None:
        """Return the opted-in pod that an order is for, which must be in its namespace."""
        pod = self.pods.get(order.spec.pod_uid)
        return pod if pod is not None and pod.namespace == order.namespace else None

    @cached_property
    def told(self) -> Mapping[str, tuple[InterruptionNotice, ...]]:
        """All that is to be acted upon now, by node: what lies far ahead or was outlived is left out."""
        found = ((node.name, tuple(self._acted_upon(node))) for node in self.nodes.values())
        return {name: notices for name, notices in found if notices}

    @cached_property
    def notices(self) -> Mapping[str, InterruptionNotice]:
        """The most pressing one for each of these nodes."""
        found = ((name, foremost(notices)) for name, notices in self.told.items())
        return {name: notice for name, notice in found if notice is not None}

    def mark_for(self, node: Node) -> InterruptionNotice | None:
        """Return the notice for which pods are to be kept off a node by us.

        Whoever puts a sign on a node keeps pods off it himself, and takes the sign back when he thinks better of
        it.
        """
        told = self.told.get(node.name, ())
        return foremost(one for one in told if not one.source.startswith(SOURCE_PREFIX))

    def _acted_upon(self, node: Node) -> Iterator[InterruptionNotice]:
        for notice in notices_of(node, self.settings.signs, self.now):
            if not notice.lies_ahead(self.now, self.settings.lead) and not self.was_outlived(node, notice):
                yield notice

    def was_outlived(self, node: Node, notice: InterruptionNotice) -> bool:
        """Say whether a machine has outlived its notice.

        Two signs are asked for: Kubernetes calls the node ready now, and kubelet itself has reported after the
        deadline, which it does every five minutes at least. A notice without a time is withdrawn by whoever gave
        it; only of one that somebody reported long ago nobody may be left to do so.
        """
        if notice.deadline is not None:
            end, patience = notice.deadline, self.settings.spare
        elif notice in node.reported and notice.final:
            end, patience = notice.seen, _UNTIMED_LIFE
        else:
            return False
        return self.now >= end + patience and node.ready and node.heartbeat is not None and node.heartbeat > end

    def is_lost(self, node: Node) -> bool:
        """Say whether a machine is surely gone, though Kubernetes cannot know it.

        Only a spot interruption ends a machine at the announced time without fail, or EC2 has said that it has
        ended; and only termination and stop leave nothing that could wake up and go on. The machine must have been
        silent since.
        """
        if node.ready or node.ready_reason != _UNHEARD or node.heartbeat is None:
            return False
        return any(node.heartbeat <= end and self.now >= end + _GONE_MARGIN for end in _ends(node))

    def under_its_notice(self, order: Order) -> bool:
        """Say whether the node for whose event an order was made is still under that notice."""
        return any(notice.id == order.spec.notice for notice in self.told.get(order.cause, ()))


def options_of(pod: Pod) -> PodOptions:
    """Return what a pod's annotations ask for: what cannot be read has its default, and the pod is saved still."""
    return pod.options or PodOptions()


def can_be_saved(pod: Pod) -> bool:
    """Say whether an agent could save a pod: below our launcher, running and meant to go on."""
    return pod.opted_in and bool(pod.injected) and pod.phase == "Running" and not pod.deleting


def _ends(node: Node) -> Iterator[datetime]:
    """Yield when a node's machine ends, or has ended, by what is beyond doubt."""
    for notice in (node.notice, *node.reported):
        if notice is None or notice.deadline is None or notice.action not in _VANISHES:
            continue
        if notice.trigger is Trigger.SPOT_INTERRUPTION or (notice.trigger is _STATE and notice in node.reported):
            yield notice.deadline


def _grouped(pairs: Iterable[tuple[_K, _T]]) -> Mapping[_K, tuple[_T, ...]]:
    groups: defaultdict[_K, list[_T]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return {key: tuple(group) for key, group in groups.items()}
