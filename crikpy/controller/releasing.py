"""The acts by which Checkpoint objects go: naming who clears the store for them, letting go, deleting.

Each is done to the very object that was planned for, told by its UID, and in the state in which it was read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from crikpy import names
from crikpy.errors import KubeConflictError, KubeNotFoundError
from crikpy.kube.api import KubeApi
from crikpy.kube.events import EventRecorder, Reference
from crikpy.kube.raw import Json, mapping, texts
from crikpy.kube.resources import CHECKPOINTS
from crikpy.model.orders import Order

_log = logging.getLogger(__name__)

_CONFLICTS = 5
"""Attempts to change the finalizers of an object that others change at the same time."""


class Releases:
    """The end of Checkpoint objects.

    Args:
        api: the cluster.
        recorder: tells people.
    """

    def __init__(self, api: KubeApi, recorder: EventRecorder) -> None:
        self._api = api
        self._recorder = recorder

    async def discard_on(self, order: Order, node: str) -> None:
        """Name the node whose agent removes what the store holds for an object.

        Raises:
            KubeError: that could not be written.
        """
        await self._patch(order, {"uid": order.uid, "labels": {names.LABEL_DISCARD_ON: node}})

    async def release(self, order: Order, left: str = "") -> None:
        """Take our finalizer off, and say so where the store may still hold something.

        Raises:
            KubeError: that could not be written.
        """
        if left:
            message = f"the checkpoint {order.status.checkpoint} may be left in the store: {left}"
            _log.warning("%s is let go of: %s", order, message)
            self._recorder.tell(Reference.of_order(order), "CheckpointLeft", message, warning=True)
        await self._with_finalizers(order, lambda found: tuple(name for name in found if name != names.FINALIZER))

    async def keep(self, order: Order) -> None:
        """Put our finalizer on.

        Raises:
            KubeError: that could not be written.
        """
        await self._with_finalizers(
            order, lambda found: (*(name for name in found if name != names.FINALIZER), names.FINALIZER)
        )

    async def delete(self, order: Order) -> None:
        """Delete an object and leave what the store holds for it.

        Raises:
            KubeError: it may still be there.
        """
        await self.release(order)
        try:
            await self._api.delete(CHECKPOINTS, order.name, namespace=order.namespace, uid=order.uid)
        except (KubeNotFoundError, KubeConflictError):
            return

    async def _with_finalizers(self, order: Order, change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> None:
        for _ in range(_CONFLICTS):
            try:
                raw = await self._api.get(CHECKPOINTS, order.name, namespace=order.namespace)
            except KubeNotFoundError:
                return
            metadata = mapping(raw.get("metadata"))
            before = texts(metadata.get("finalizers"))
            after = change(before)
            if metadata.get("uid") != order.uid or before == after:
                return
            change_if_same = {"resourceVersion": metadata["resourceVersion"], "finalizers": list(after)}
            try:
                await self._patch(order, change_if_same)
            except KubeConflictError:
                continue
            return
        raise KubeConflictError(f"the Checkpoint object {order} changes all the time")

    async def _patch(self, order: Order, metadata: Json) -> None:
        try:
            await self._api.patch(
                CHECKPOINTS,
                order.name,
                {"metadata": metadata},
                namespace=order.namespace,
                field_manager=names.FIELD_MANAGER_CONTROLLER,
            )
        except KubeNotFoundError:
            return
