"""Whether this node can save jobs: looked at now and then, told to kubelet, to the cluster and to people.

A node that cannot is not taken out of service: its jobs run as they would without us, and the reason is where
people look for it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from crikpy import names
from crikpy.agent.reporting import Teller
from crikpy.agent.threads import in_thread
from crikpy.aio.clock import Deadline
from crikpy.criu.features import check_node
from crikpy.errors import CrikpyError, NodeError
from crikpy.flows.gpus import NO_GPUS, node_finding
from crikpy.kube.api import Json
from crikpy.kube.times import render_seconds
from crikpy.metrics import Metrics
from crikpy.model.health import Finding, Verdict
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore

_log = logging.getLogger(__name__)

_EVERY_S: Final = 300.0
_AGAIN_S: Final = 15.0
"""While the node is not ready: most of what is missing comes back by itself."""

_LOOK_S: Final = 60.0
_OTHERS: Final = frozenset({"run-dir"})
"""What only jobs on plain machines need."""

_LONGEST_MESSAGE: Final = 1024
_ABLE: Final = "CanSave"
_UNKNOWN: Final = "this node has not been looked at yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ability:
    """What a look has shown.

    Attributes:
        able: jobs can be saved here.
        reason: a CamelCase word.
        message: a sentence; what is missing, and what to do about it.
    """

    able: bool
    reason: str
    message: str


class Readiness:
    """The last look, and the task that repeats it."""

    def __init__(
        self,
        store: ObjectStore,
        teller: Teller,
        metrics: Metrics,
        settings: Settings,
        *,
        again_s: float = _AGAIN_S,
    ) -> None:
        self._store = store
        self._teller = teller
        self._metrics = metrics
        self._settings = settings
        self._again_s = again_s
        self._last: Ability | None = None

    def complaint(self) -> str | None:
        """Return why jobs cannot be saved here, or None when they can; what /readyz shows."""
        if self._last is None:
            return _UNKNOWN
        return None if self._last.able else self._last.message

    async def run(self) -> None:
        """Look for ever; cancel to stop."""
        while True:
            ability = await in_thread(None, look, self._settings, self._store, Deadline.after(_LOOK_S))
            self._take(ability)
            await asyncio.sleep(_EVERY_S if ability.able else self._again_s)

    def _take(self, ability: Ability) -> None:
        """Tell what has changed; the condition each time, so that a node that was made anew has it again."""
        before, self._last = self._last, ability
        self._metrics.node_ready.set(int(ability.able))
        self._teller.tell_condition(_condition(ability, datetime.now(UTC)))
        self._teller.tell_label(names.LABEL_READY, "true" if ability.able else "false")
        if before is not None and (before.able, before.reason) == (ability.able, ability.reason):
            return
        if ability.able:
            self._teller.tell_node("NodeCanSave", ability.message)
        else:
            self._teller.tell_node("NodeCannotSave", ability.message, warning=True)


def look(settings: Settings, store: ObjectStore, deadline: Deadline) -> Ability:
    """Look at the node and at the store; never raises for what is missing. Blocks."""
    findings = [finding for finding in check_node(settings, deadline=deadline) if finding.name not in _OTHERS]
    failed = [finding for finding in findings if finding.verdict is Verdict.FAILED]
    try:
        store.check()
    except CrikpyError as fault:
        return _unable(fault.reason, failed, f"the store {store.url}: {fault}")
    if failed:
        return _unable(NodeError.reason, failed)
    message = f"jobs can be saved on this node, to {store.url}{_gpus(settings, deadline)}"
    return Ability(able=True, reason=_ABLE, message=message[:_LONGEST_MESSAGE])


def _gpus(settings: Settings, deadline: Deadline) -> str:
    """Return what is to be said of this node's GPUs; nothing where there are none."""
    found = node_finding(settings, deadline)
    if found.verdict is Verdict.WARNING:
        return f"; those on its GPUs cannot: {found.fact} ({found.remedy})"
    return f"; those on its GPUs too: {found.fact}" if found.fact != NO_GPUS else ""


def _unable(reason: str, failed: list[Finding], *more: str) -> Ability:
    facts = [
        f"{finding.name}: {finding.fact}" + (f" ({finding.remedy})" if finding.remedy else "")
        for finding in failed
    ]
    message = f"jobs cannot be saved on this node: {'; '.join([*more, *facts])}"
    return Ability(able=False, reason=reason, message=message[:_LONGEST_MESSAGE])


def _condition(ability: Ability, now: datetime) -> Json:
    return {
        "type": names.CONDITION_READY,
        "status": "True" if ability.able else "False",
        "reason": ability.reason,
        "message": ability.message,
        "lastHeartbeatTime": render_seconds(now),
        "lastTransitionTime": render_seconds(now),
    }
