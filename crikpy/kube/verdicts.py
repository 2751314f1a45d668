"""What agents have said of pods after a look at their jobs: that they can be saved, or cannot, and why.

They say it by events, which the API server forgets after a while: of a pod that is not found nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from crikpy.aio.clock import Deadline
from crikpy.kube import raw
from crikpy.kube.api import KubeApi
from crikpy.kube.raw import Json
from crikpy.kube.resources import EVENTS

CANNOT_BE_SAVED: Final = "CannotBeSaved"
CAN_BE_SAVED: Final = "CanBeSaved"
"""Reasons of the agents' events after a look at a job."""


async def list_verdicts(
    api: KubeApi, *, namespace: str = "", deadline: Deadline | None = None
) -> tuple[Json, ...]:
    """Return the events that tell it, of a namespace or of all, in no order.

    Raises:
        KubeError: they could not be read.
    """
    found: tuple[Json, ...] = ()
    for reason in (CANNOT_BE_SAVED, CAN_BE_SAVED):
        chosen = f"reason={reason}"
        found += (await api.list(EVENTS, namespace=namespace, field_selector=chosen, deadline=deadline)).items
    return found


def refusals(events: Iterable[Json]) -> dict[str, str]:
    """Return the UIDs of the pods of which the newest word is that they cannot be saved, with that word."""
    newest: dict[str, tuple[str, str, str]] = {}
    for event in events:
        uid = raw.text(raw.mapping(event.get("involvedObject")).get("uid"))
        told = (time_of(event), raw.text(event.get("reason")), raw.text(event.get("message")))
        if told[1] in (CANNOT_BE_SAVED, CAN_BE_SAVED):
            newest[uid] = max(newest.get(uid, ("", "", "")), told)
    return {uid: message for uid, (_, reason, message) in newest.items() if reason == CANNOT_BE_SAVED}


def time_of(event: Json) -> str:
    """Return the time of an event's last occurrence, seconds only, so that times of both kinds compare."""
    time = event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or ""
    return f"{str(time)[:19]}Z" if time else ""
