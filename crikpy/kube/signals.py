"""Signs on a Node object that say that it goes away, our own taint and those of others: the table, what it finds.

Pure. Only signs by which a node surely goes are here: a cordon alone is none, and neither is a mark that is taken
back as a matter of course, such as cluster-autoscaler's DeletionCandidate.
Sources: Karpenter (karpenter.sh/v1 taints), cluster-autoscaler (utils/taints), AWS Node Termination Handler
(pkg/node), kubelet's graceful node shutdown (KEP-2000).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from crikpy import names
from crikpy.errors import SettingsError
from crikpy.model.nodes import Node, Taint
from crikpy.model.notices import Trigger
from crikpy.settings import SignalSettings

_IGNORE: Final = "Ignore"
_MEANINGS: Final = (Trigger.SPOT_INTERRUPTION, Trigger.SCHEDULED_EVENT, Trigger.NODE_SHUTDOWN, Trigger.DRAIN)
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")

_SHUTS_DOWN: Final = "node is shutting down"
"""Kubelet's message of Ready=False once its machine shuts down (pkg/kubelet/nodestatus/setters.go)."""


_OUR_EFFECT: Final = "NoSchedule"
"""Of our taint under a final notice; that of a recommendation only asks to avoid the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """One line of the table.

    Attributes:
        key: the taint's key.
        effect: the taint's effect; empty means any.
        meaning: why the node goes away.
    """

    key: str
    effect: str
    meaning: Trigger

    def fits(self, taint: Taint) -> bool:
        """Say whether a taint is this sign."""
        return taint.key == self.key and self.effect in ("", taint.effect)


def read_signs(settings: SignalSettings) -> tuple[Sign, ...]:
    """Return the table.

    Raises:
        SettingsError: naming every line that cannot be read.
    """
    faults: list[str] = []
    lines: dict[tuple[str, str], Sign | None] = {}
    texts = {"CRIKPY_SIGNALS_TAINTS": settings.taints, "CRIKPY_SIGNALS_MORE_TAINTS": settings.more_taints}
    for name, text in texts.items():
        for line in filter(None, (part.strip() for part in text.split(","))):
            try:
                key, effect, meaning = _read_line(line)
            except ValueError as fault:
                faults.append(f"{name}: {line!r}: {fault}")
            else:
                lines[key, effect] = None if meaning is None else Sign(key=key, effect=effect, meaning=meaning)
    if faults:
        raise SettingsError("; ".join(faults), remedy="a line is `KEY[:EFFECT] MEANING`, see docs/settings.md")
    return tuple(sign for sign in lines.values() if sign is not None)


def why_going(node: Node, signs: tuple[Sign, ...]) -> Trigger | None:
    """Return why a node goes away by the signs on its object, our own taint first; None when none says so."""
    ours = next((taint for taint in node.taints if (taint.key, taint.effect) == (names.TAINT, _OUR_EFFECT)), None)
    if ours is not None:
        return Trigger(ours.value) if ours.value in set(Trigger) else Trigger.DRAIN
    if not node.ready and _SHUTS_DOWN in node.ready_message:
        return Trigger.NODE_SHUTDOWN
    for taint in node.taints:
        for sign in signs:
            if sign.fits(taint):
                return sign.meaning
    return Trigger.DRAIN if node.deleting else None


def _read_line(line: str) -> tuple[str, str, Trigger | None]:
    words = line.split()
    if len(words) != 2:
        raise ValueError("not a key and a meaning")
    key, colon, effect = words[0].partition(":")
    if not key:
        raise ValueError("the key is missing")
    if colon and effect not in _EFFECTS:
        raise ValueError(f"the effect must be {', '.join(_EFFECTS)} or left out")
    if words[1] != _IGNORE and words[1] not in _MEANINGS:
        raise ValueError(f"the meaning must be {', '.join(_MEANINGS)} or {_IGNORE}")
    return key, effect, None if words[1] == _IGNORE else Trigger(words[1])
