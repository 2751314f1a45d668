"""Pods that came to a node on which their checkpoint cannot be resumed, and so are to begin elsewhere, once.

Their agent has said so in the status of the order that saved the job; nothing of it runs there. A pod is ended
only where another node is known to fit and takes pods: else it had better start where it is. Once it has, its
agent has failed the order, and the pod is let alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from crikpy.controller.actions import EvictPod
from crikpy.controller.placing import fitting_classes
from crikpy.controller.viewing import ClusterView
from crikpy.model.orders import Order, OrderPhase
from crikpy.model.pods import Pod


def plan_moves(view: ClusterView) -> Iterator[EvictPod]:
    """Yield the pods to end for that."""
    for known in view.orders:
        pod = misfit_of(view, known.order)
        if pod is not None and not pod.deleting and not pod.over and _has_place(view, known.order, pod):
            yield EvictPod(pod=pod, order=known.order, misfit=True)


def misfit_of(view: ClusterView, order: Order) -> Pod | None:
    """Return the pod that came to the wrong node for what an order has saved, and waits there to be moved."""
    if order.status.phase is not OrderPhase.COMPLETE:
        return None
    place, _, uid = order.status.misfit.rpartition("/")
    pod = view.pods.get(uid)
    return pod if pod is not None and place == f"{order.namespace}/{pod.name}" == str(pod) else None


def _has_place(view: ClusterView, order: Order, pod: Pod) -> bool:
    """Say whether a node that fits takes pods, another one than where the pod is."""
    classes = {node.cpu: node.cpu_features for node in view.nodes.values() if node.cpu}
    fits = fitting_classes(order.cpu, classes)
    return any(
        node.ready and not node.unschedulable and node.cpu in fits and node.name != pod.node
        for node in view.nodes.values()
        if node.cpu
    )
