"""Which nodes take no new pods: our taint, our cordon, and how both are undone.

- A node under a final notice bears the taint with the effect NoSchedule and is cordoned. The annotation
  `crikpy.io/cordoned-for` says that the cordon is ours; a node that somebody else had cordoned does not get it and
  stays cordoned afterwards. Whoever uncordons such a node by hand has the last word for that notice: the
  annotation `crikpy.io/uncordoned-for` takes the place of the other, and a cordon that comes later is theirs.
- A node on which others have put a sign of its end is kept free by them, and is none of our business here.
- A node under a rebalance recommendation may live for days: it bears the taint with the effect PreferNoSchedule,
  so that replacements go elsewhere where they can, and it is not cordoned.

What a node should bear is decided once, by `wanted_marks`; planning compares and acting writes by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crikpy import names
from crikpy.controller.actions import MarkNode, UndoNode, WithdrawReport
from crikpy.controller.viewing import ClusterView
from crikpy.kube.nodes import parse_node
from crikpy.kube.raw import Json, items, mapping
from crikpy.model.nodes import Node, Taint
from crikpy.model.notices import InterruptionNotice

NO_SCHEDULE = "NoSchedule"
PREFER_NO_SCHEDULE = "PreferNoSchedule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What concerns us of a node's specification.

    Attributes:
        taints: those with our key.
        unschedulable: it is cordoned.
        cordoned_for: id of the notice for which we cordoned it, or empty.
        uncordoned_for: id of the notice during which somebody else uncordoned it, or empty.
    """

    taints: tuple[Taint, ...]
    unschedulable: bool
    cordoned_for: str = ""
    uncordoned_for: str = ""


def plan_marks(view: ClusterView) -> Iterator[MarkNode | UndoNode]:
    """Yield what must be done so that every node bears the marks that it should."""
    for node in view.nodes.values():
        notice = view.mark_for(node)
        if node.deleting or marks_of(node) == wanted_marks(node, notice):
            continue
        yield UndoNode(node=node.name) if notice is None else MarkNode(node=node.name, notice=notice)


def plan_withdrawals(view: ClusterView) -> Iterator[WithdrawReport]:
    """Yield the reported notices that their machines have outlived: nobody else takes them back."""
    for node in view.nodes.values():
        for notice in node.reported:
            if view.was_outlived(node, notice):
                yield WithdrawReport(node=node.name, notice=notice)


def marks_of(node: Node) -> Marks:
    """Return the marks that a node bears."""
    annotations = dict(node.annotations)
    return Marks(
        taints=tuple(taint for taint in node.taints if taint.key == names.TAINT),
        unschedulable=node.unschedulable,
        cordoned_for=annotations.get(names.CORDONED, ""),
        uncordoned_for=annotations.get(names.UNCORDONED, ""),
    )


def is_marked(node: Node) -> bool:
    """Say whether the scheduler avoids a node, be it for our sake or for somebody else's."""
    return node.unschedulable or any(taint.key == names.TAINT for taint in node.taints)


def wanted_marks(node: Node, notice: InterruptionNotice | None) -> Marks:
    """Return the marks that a node should bear under a notice, or under none."""
    now = marks_of(node)
    if notice is None or not notice.final:
        taint = notice and Taint(key=names.TAINT, value=notice.trigger.value, effect=PREFER_NO_SCHEDULE)
        return Marks(taints=(taint,) if taint else (), unschedulable=now.unschedulable and not now.cordoned_for)
    taints = (Taint(key=names.TAINT, value=notice.trigger.value, effect=NO_SCHEDULE),)
    was_uncordoned = notice.known_as(now.cordoned_for) and not now.unschedulable
    if was_uncordoned or notice.known_as(now.uncordoned_for):
        found = now.cordoned_for if was_uncordoned else now.uncordoned_for
        return Marks(taints=taints, unschedulable=now.unschedulable, uncordoned_for=found)
    if notice.known_as(now.cordoned_for):
        return Marks(taints=taints, unschedulable=True, cordoned_for=now.cordoned_for)
    is_ours = bool(now.cordoned_for) or not now.unschedulable
    return Marks(taints=taints, unschedulable=True, cordoned_for=notice.id if is_ours else "")


def render_marks(raw: Json, notice: InterruptionNotice | None) -> Json | None:
    """Return the merge patch that gives a node, as it was just read, its marks; None when it bears them.

    The patch names the resource version, since it replaces the whole list of taints: others write there too.
    """
    node = parse_node(raw)
    has, wants = marks_of(node), wanted_marks(node, notice)
    if has == wants:
        return None
    spec: Json = {}
    metadata: Json = {"resourceVersion": node.resource_version}
    if has.taints != wants.taints:
        others = [
            taint for taint in items(mapping(raw.get("spec")).get("taints")) if taint.get("key") != names.TAINT
        ]
        spec["taints"] = others + [_render_taint(taint) for taint in wants.taints]
    if has.unschedulable != wants.unschedulable:
        spec["unschedulable"] = wants.unschedulable
    annotations = {names.CORDONED: wants.cordoned_for or None, names.UNCORDONED: wants.uncordoned_for or None}
    return {"metadata": metadata | {"annotations": annotations}, "spec": spec}


def _render_taint(taint: Taint) -> Json:
    return {"key": taint.key, "value": taint.value, "effect": taint.effect}
