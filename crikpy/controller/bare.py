"""Bare pods at the API server: their JSON goes into their order, and out of it into a new pod.

What stands in an order's annotation is only as trustworthy as whoever may change Checkpoint objects in its
namespace; so nothing is made but the opted-in pod of that name in that namespace. docs/security.md says what the
right to make Checkpoint objects means.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from crikpy import names
from crikpy.controller.recreating import LARGEST_POD_BYTES, clean_pod
from crikpy.errors import KubeConflictError, KubeError, KubeNotFoundError
from crikpy.kube.api import KubeApi
from crikpy.kube.events import EventRecorder, Reference
from crikpy.kube.raw import Json, mapping
from crikpy.kube.resources import CHECKPOINTS, PODS
from crikpy.model.orders import Order
from crikpy.model.pods import Pod

_log = logging.getLogger(__name__)


class BarePods:
    """Keeps bare pods and makes them again."""

    def __init__(self, api: KubeApi, recorder: EventRecorder) -> None:
        self._api = api
        self._recorder = recorder

    async def keep(self, pod: Pod) -> dict[str, str]:
        """Return the annotations of an order that keep a pod; none when it cannot be kept, which its user is told.

        Raises:
            KubeError: the pod could not be read.
        """
        raw = await self._api.get(PODS, pod.name, namespace=pod.namespace)
        cleaned = clean_pod(raw) if mapping(raw.get("metadata")).get("uid") == pod.uid else None
        text = json.dumps(cleaned, separators=(",", ":"), ensure_ascii=False)
        if cleaned is None or len(text.encode()) > LARGEST_POD_BYTES:
            why = (
                "a static pod is kubelet's" if cleaned is None else f"it is larger than {LARGEST_POD_BYTES} bytes"
            )
            self._recorder.tell(Reference.of_pod(pod), "RecreateFailed", f"cannot be kept: {why}", warning=True)
            return {}
        return {names.RECREATE_FROM: text}

    async def recreate(self, order: Order) -> None:
        """Make the pod that an order keeps, and let the order go of it.

        Raises:
            KubeError: it could not be made.
        """
        try:
            raw = await self._api.get(CHECKPOINTS, order.name, namespace=order.namespace)
        except KubeNotFoundError:
            return
        text = mapping(mapping(raw.get("metadata")).get("annotations")).get(names.RECREATE_FROM)
        if text is None:
            return
        about = Reference.of_order(order)
        pod = _read(text, order)
        if pod is None:
            self._recorder.tell(about, "RecreateFailed", f"{names.RECREATE_FROM} holds no such pod", warning=True)
            await self.settle(order)
            return
        try:
            await self._api.create(PODS, pod, namespace=order.namespace)
        except KubeConflictError:
            if await self._is_still_there(order):
                return
        except KubeError as fault:
            self._recorder.tell(about, "RecreateFailed", f"pod {order.spec.pod}: {fault}", warning=True)
            raise
        else:
            _log.info("made bare pod %s/%s again", order.namespace, order.spec.pod)
            self._recorder.tell(about, "Recreated", f"pod {order.spec.pod} was made again")
        await self.settle(order)

    async def settle(self, order: Order) -> None:
        """Take the pod out of its order.

        Raises:
            KubeError: that could not be written.
        """
        patch: Json = {"metadata": {"annotations": {names.RECREATE_FROM: None}}}
        if order.uid:
            patch["metadata"]["uid"] = order.uid
        try:
            await self._api.patch(
                CHECKPOINTS,
                order.name,
                patch,
                namespace=order.namespace,
                field_manager=names.FIELD_MANAGER_CONTROLLER,
            )
        except (KubeNotFoundError, KubeConflictError):
            return

    async def _is_still_there(self, order: Order) -> bool:
        """Say whether the name is still borne by the pod that was saved."""
        try:
            raw = await self._api.get(PODS, order.spec.pod, namespace=order.namespace)
        except KubeNotFoundError:
            return True  # it went in this moment; the next round makes the new one
        return bool(mapping(raw.get("metadata")).get("uid") == order.spec.pod_uid)


def _read(text: str, order: Order) -> Json | None:
    try:
        pod: Any = json.loads(text)
    except ValueError:
        return None
    metadata = mapping(mapping(pod).get("metadata"))
    is_the_one = (
        mapping(pod).get("kind") == PODS.kind
        and metadata.get("name") == order.spec.pod
        and metadata.get("namespace") == order.namespace
        and mapping(metadata.get("annotations")).get(names.OPT_IN) == "true"
    )
    return pod if is_the_one else None
