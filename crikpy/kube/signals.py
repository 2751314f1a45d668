"""Signs on a Node object that say that it goes away, our own taint and those of others: the table, what it finds.

Pure. A cordon alone is no sign, and neither is a mark that is taken back as a matter of course, such as
cluster-autoscaler's DeletionCandidate. A sign has no id of its own, so an id is a hash of the node and the sign:
read twice it is the same notice.
Sources: Karpenter (karpenter.sh/v1 taints), cluster-autoscaler (utils/taints), AWS Node Termination Handler
(pkg/node), kubelet's graceful node shutdown (KEP-2000), non-graceful shutdown (KEP-2268).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from crikpy import names
from crikpy.errors import SettingsError
from crikpy.model.nodes import Node, Taint
from crikpy.model.notices import InterruptionNotice, Trigger, foremost
from crikpy.settings import SignalSettings

_LOST: Final = "Lost"
_IGNORE: Final = "Ignore"
_MEANINGS: Final = (
    Trigger.SPOT_INTERRUPTION,
    Trigger.SCHEDULED_EVENT,
    Trigger.NODE_SHUTDOWN,
    Trigger.DRAIN,
    Trigger.REBALANCE_RECOMMENDATION,
)
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_SHUTS_DOWN: Final = "node is shutting down"
"""What kubelet says in the message of Ready=False once its machine shuts down (kubelet/nodestatus/setters.go)."""

_OUR_EFFECT: Final = "NoSchedule"
"""Of our taint under a final notice; that of a recommendation only asks to avoid the node."""

SOURCE_PREFIX: Final = "node:"
"""Beginning of InterruptionNotice.source where a sign on the Node object was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """One line of the table.

    Attributes:
        key: the taint's key.
        effect: the taint's effect; empty means any.
        meaning: what the taint says; None where it says that the machine is lost already.
    """

    key: str
    effect: str
    meaning: Trigger | None

    def fits(self, taint: Taint) -> bool:
        """Say whether a taint is this sign."""
        return taint.key == self.key and self.effect in ("", taint.effect)


Signs = tuple[Sign, ...] | None
"""The table; None where signs are switched off, kubelet's shutdown and deletion too."""


def read_signs(settings: SignalSettings) -> Signs:
    """Return the table.

    Raises:
        SettingsError: naming every line that cannot be read.
    """
    if not settings.enabled:
        return None
    faults: list[str] = []
    lines: dict[tuple[str, str], Sign | None] = {}
    for name, text in (
        ("CRIKPY_SIGNALS_TAINTS", settings.taints),
        ("CRIKPY_SIGNALS_MORE_TAINTS", settings.more_taints),
    ):
        for line in filter(None, (part.strip() for part in text.split(","))):
            try:
                key, effect, sign = _read_line(line)
            except ValueError as fault:
                faults.append(f"{name}: {line!r}: {fault}")
            else:
                lines[key, effect] = sign
    if faults:
        raise SettingsError("; ".join(faults), remedy="a line is `KEY[:EFFECT] MEANING`, see docs/settings.md")
    return tuple(sign for sign in lines.values() if sign is not None)


def _read_line(line: str) -> tuple[str, str, Sign | None]:
    words = line.split()
    if len(words) != 2:
        raise ValueError("not a key and a meaning")
    key, colon, effect = words[0].partition(":")
    if not key:
        raise ValueError("the key is missing")
    if colon and effect not in _EFFECTS:
        raise ValueError(f"the effect must be {', '.join(_EFFECTS)} or left out")
    if words[1] == _IGNORE:
        return key, effect, None
    if words[1] == _LOST:
        return key, effect, Sign(key=key, effect=effect, meaning=None)
    if words[1] not in _MEANINGS:
        raise ValueError(f"the meaning must be {', '.join(_MEANINGS)}, {_LOST} or {_IGNORE}")
    return key, effect, Sign(key=key, effect=effect, meaning=Trigger(words[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A sign that stands on a node.

    Attributes:
        meaning: what it says.
        sign: a word for it, for `InterruptionNotice.source`.
        words: what tells it from an earlier one of its kind on the same node.
        since: when it was put there, where that is known; aware UTC.
    """

    meaning: Trigger
    sign: str
    words: str = ""
    since: datetime | None = None


def signalled(node: Node, signs: Signs, now: datetime) -> Iterator[InterruptionNotice]:
    """Yield what the signs of others on a node say; nothing where signs are switched off.

    Args:
        node: the node.
        signs: the table.
        now: for `seen`, since a taint does not say when it was put there; aware UTC.
    """
    for found in _found(node, signs):
        yield _notice(node, found, now)


def why_going(node: Node, signs: Signs) -> Trigger | None:
    """Return why a node goes away by the signs on its object, our own taint first; None when none says so."""
    ours = next((taint for taint in node.taints if (taint.key, taint.effect) == (names.TAINT, _OUR_EFFECT)), None)
    if ours is not None:
        return Trigger(ours.value) if ours.value in set(Trigger) else Trigger.DRAIN
    meanings = (found.meaning for found in _found(node, signs))
    return next((meaning for meaning in meanings if meaning is not Trigger.REBALANCE_RECOMMENDATION), None)


def is_lost(node: Node, signs: Signs) -> bool:
    """Say whether a sign says that the machine is gone: too late to save anything there."""
    return any(sign.meaning is None and sign.fits(taint) for taint in node.taints for sign in signs or ())


def notices_of(node: Node, signs: Signs, now: datetime) -> Sequence[InterruptionNotice]:
    """Return all that a Node object tells of its end: by its agent, by the controller, by signs of others."""
    by_agent = () if node.notice is None else (node.notice,)
    return (*by_agent, *node.reported, *signalled(node, signs, now))


def notice_of(node: Node, signs: Signs, now: datetime) -> InterruptionNotice | None:
    """Return the most pressing of them, or None."""
    return foremost(notices_of(node, signs, now))


def _found(node: Node, signs: Signs) -> Iterator[_Found]:
    if signs is None:
        return
    if not node.ready and _SHUTS_DOWN in node.ready_message:
        words = "" if node.ready_since is None else f"{node.ready_since:%Y%m%dT%H%M%S}"
        yield _Found(meaning=Trigger.NODE_SHUTDOWN, sign="kubelet", words=words, since=node.ready_since)
    for taint in node.taints:
        sign = next((sign for sign in signs if sign.fits(taint)), None)
        if sign is not None and sign.meaning is not None:
            yield _Found(meaning=sign.meaning, sign=f"taint/{taint.key}", words=taint.value)
    if node.deleting:
        yield _Found(meaning=Trigger.DRAIN, sign="deletion")


def _notice(node: Node, found: _Found, now: datetime) -> InterruptionNotice:
    digest = hashlib.sha256(f"{node.name}\n{node.uid}\n{found.sign}\n{found.words}".encode()).hexdigest()
    return InterruptionNotice(
        id=f"sign-{digest[:16]}",
        trigger=found.meaning,
        source=f"{SOURCE_PREFIX}{found.sign}",
        instance=node.instance,
        deadline=None,
        action="terminate" if found.meaning is Trigger.SPOT_INTERRUPTION else "",
        seen=found.since or now,
    )
