"""Where a pod may go whose workload has a checkpoint waiting: to nodes on which that can be resumed.

A restored process keeps to the instructions of the CPU that it began on. Nodes of one CPU class offer the same
ones; a class fits another one if it offers at least those. The webhook says so in the pod's node affinity: as a
wish, or as a condition where the pod asks for that, or where a pod of the workload came to the wrong place before.
Nothing here looks for space, fails a pod, or has it wait for a node that does not exist: where no node is known to
fit, a pod is placed as if it had no checkpoint, unless its owner insists.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from crikpy import names
from crikpy.controller.sighting import Sight
from crikpy.errors import AnnotationError
from crikpy.kube import raw
from crikpy.kube.annotations import parse_options
from crikpy.kube.identity import workload_name
from crikpy.kube.raw import Json
from crikpy.metrics import Metrics
from crikpy.model.manifest import APPLICATION_MODE
from crikpy.model.nodes import Node
from crikpy.model.orders import Order, OrderPhase
from crikpy.model.pods import Placement, PodOptions

_log = logging.getLogger(__name__)

_OVER: Final = (OrderPhase.FAILED, OrderPhase.EXPIRED, OrderPhase.RESTORED)
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_MOST_TERMS: Final = 20
_MOST_VALUES: Final = 100
"""Of one expression; a cluster has a handful of CPU classes and rarely as many instance types."""

_WISHES: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_DEMANDS: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_CPU_WEIGHT: Final = 100
_FAMILY_WEIGHT: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Which nodes fit what waits.

    Attributes:
        classes: their CPU classes, sorted.
        families: their instance families, sorted.
        types: their instance types, sorted; for nodes that do not exist yet.
        all_nodes: all nodes of which anything is known fit.
        insists: only these may be used.
    """

    classes: tuple[str, ...]
    families: tuple[str, ...]
    types: tuple[str, ...]
    all_nodes: bool
    insists: bool


Classes = Mapping[str, frozenset[str]]


class Placer:
    """Gives pods their affinity, from what this replica sees.

    Args:
        sight: nodes and orders.
        metrics: counted in.
    """

    def __init__(self, sight: Sight, metrics: Metrics) -> None:
        self._sight = sight
        self._metrics = metrics
        self._classes: dict[str, frozenset[str]] = {}
        """Features of every class that was ever seen: the node of a checkpoint is usually gone."""

    def place(self, pod: Json, namespace: str) -> Json:
        """Return a pod that is about to be made with its affinity; the pod itself where there is none to give.

        Args:
            pod: raw JSON; stays as it is.
            namespace: where it is made; its own JSON need not say so yet.
        """
        if not self._sight.complete or not _may_be_placed(pod):
            return pod
        wish = _options(pod).placement
        if wish is Placement.IGNORE:
            return pod
        nodes = list(self._sight.nodes.items.values())
        self._classes.update((node.cpu, node.cpu_features) for node in nodes if node.cpu and node.cpu_features)
        orders = (known.order for known in self._sight.orders_in_force())
        fit = find_fit(waiting_for(pod, namespace, orders), nodes, self._classes, wish)
        if fit is None or (fit.all_nodes and not fit.insists):
            return pod
        changed = require(pod, fit) if fit.insists else prefer(pod, fit)
        if changed != pod:
            strength = "required" if fit.insists else "preferred"
            self._metrics.placements.labels(strength=strength).inc()
            _log.info("a pod of %s is kept to nodes that fit its checkpoint (%s)", namespace, strength)
        return changed


def waiting_for(pod: Json, namespace: str, orders: Iterable[Order]) -> list[Order]:
    """Return the orders under which what the pod may resume was saved or is being saved, the newest first."""
    workload = workload_name(pod)
    found = [
        order
        for order in orders
        if order.spec.workload == workload and order.namespace == namespace
        if order.status.phase not in _OVER and order.cpu and order.status.mode != APPLICATION_MODE
    ]
    return sorted(found, key=lambda order: (order.created or _LONG_AGO, order.name), reverse=True)


def find_fit(waiting: Sequence[Order], nodes: Sequence[Node], classes: Classes, wish: Placement) -> Fit | None:
    """Return which nodes fit what waits; None when nothing waits.

    Of several checkpoints nobody knows which one this pod will resume: what counts is what fits all of them, or
    the newest where nothing does.

    Args:
        waiting: from waiting_for.
        nodes: all of the cluster.
        classes: the features of each CPU class, as far as they are known.
        wish: what the pod asks for.
    """
    if not waiting:
        return None
    chosen = frozenset.intersection(*(fitting_classes(order.cpu, classes) for order in waiting))
    chosen = chosen or fitting_classes(waiting[0].cpu, classes)
    fitting = [node for node in nodes if node.cpu in chosen]
    is_there = any(node.ready and not node.unschedulable for node in fitting)
    was_moved = any(order.status.misfit for order in waiting)
    types = [node.instance_type for node in fitting]
    types += [order.instance_type for order in waiting if order.cpu in chosen]
    return Fit(
        classes=_values(chosen),
        families=_values(node.family for node in fitting),
        types=_values(types),
        all_nodes=len(fitting) == len(nodes),
        insists=wish is Placement.REQUIRE or (was_moved and is_there),
    )


def fitting_classes(cpu: str, classes: Classes) -> frozenset[str]:
    """Return the CPU classes that offer all that another one does; of one that is unknown only itself does."""
    needed = classes.get(cpu)
    fits = [name for name, features in classes.items() if needed is not None and features >= needed]
    return frozenset([cpu, *fits])


def prefer(pod: Json, fit: Fit) -> Json:
    """Return a pod that is drawn to nodes that fit; what it wishes for itself stays."""
    changed = copy.deepcopy(pod)
    affinity = changed["spec"].setdefault("affinity", {}).setdefault("nodeAffinity", {})
    terms = affinity.setdefault(_WISHES, [])
    wishes = [(_CPU_WEIGHT, names.LABEL_CPU, fit.classes), (_FAMILY_WEIGHT, names.LABEL_FAMILY, fit.families)]
    for weight, label, values in wishes:
        if values and not any(
            _names_label(raw.mapping(term.get("preference")), label) for term in raw.items(terms)
        ):
            terms.append({"weight": weight, "preference": {"matchExpressions": [_in(label, values)]}})
    return changed if terms else pod


def require(pod: Json, fit: Fit) -> Json:
    """Return a pod that goes nowhere else; what it demands itself stays demanded.

    A node that does not exist yet has no labels of ours. So that an autoscaler may make one, instance types that
    fit count for nodes without them.
    """
    changed = copy.deepcopy(pod)
    affinity = changed["spec"].setdefault("affinity", {}).setdefault("nodeAffinity", {})
    required = affinity.setdefault(_DEMANDS, {})
    given = list(raw.items(required.get("nodeSelectorTerms")))
    own: list[Json] = [term for term in given if any(term.values())] if given else [{}]
    if not own or any(_names_label(term, names.LABEL_CPU) for term in own):
        return pod
    ways = [[_in(names.LABEL_CPU, fit.classes)]]
    if fit.types:
        unknown = {"key": names.LABEL_CPU, "operator": "DoesNotExist"}
        ways.append([unknown, _in(names.LABEL_WELL_KNOWN_TYPE, fit.types)])
    if len(own) * len(ways) > _MOST_TERMS:
        _log.warning("a pod has too many node selector terms to be kept to nodes that fit; it is drawn to them")
        return prefer(pod, fit)
    required["nodeSelectorTerms"] = [
        {**term, "matchExpressions": [*raw.items(term.get("matchExpressions")), *way]}
        for term in own
        for way in ways
    ]
    return changed


def without_placement(affinity: Json) -> Json:
    """Return the affinity that a pod's owner gave it, from one that has been through here."""
    changed = copy.deepcopy(affinity)
    node = raw.mapping(changed.get("nodeAffinity"))
    ours = (names.LABEL_CPU, names.LABEL_FAMILY)
    terms = [
        term
        for term in raw.items(node.pop(_WISHES, None))
        if not any(_names_label(raw.mapping(term.get("preference")), label) for label in ours)
    ]
    if terms:
        node[_WISHES] = terms
    required = raw.mapping(node.pop(_DEMANDS, None))
    own = [found for term in raw.items(required.get("nodeSelectorTerms")) if (found := _without_ours(term))]
    if own:
        node[_DEMANDS] = {"nodeSelectorTerms": own}
    if not node:
        changed.pop("nodeAffinity", None)
    return changed


def _without_ours(term: Json) -> Json:
    """Return a selector term as it was; nothing for one that is there for ours alone."""
    expressions = list(raw.items(term.get("matchExpressions")))
    ours = [expression for expression in expressions if expression.get("key") == names.LABEL_CPU]
    if any(expression.get("operator") == "DoesNotExist" for expression in ours):
        return {}
    kept = [expression for expression in expressions if expression not in ours]
    rest = {field: value for field, value in term.items() if field != "matchExpressions"}
    return {**rest, "matchExpressions": kept} if kept else rest


def _may_be_placed(pod: Json) -> bool:
    return not raw.text(raw.mapping(pod.get("spec")).get("nodeName"))


def _options(pod: Json) -> PodOptions:
    try:
        return parse_options(raw.string_map(raw.mapping(pod.get("metadata")).get("annotations")))
    except AnnotationError:  # who admits it says so
        return PodOptions()


def _names_label(term: Json, label: str) -> bool:
    return any(expression.get("key") == label for expression in raw.items(term.get("matchExpressions")))


def _values(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(found) - {""}))[:_MOST_VALUES]


def _in(label: str, values: Sequence[str]) -> Json:
    return {"key": label, "operator": "In", "values": list(values)}
