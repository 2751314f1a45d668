"""Places where somebody misbehaved in a launcher's place: left alone, each time for longer.

What listens there may be hostile or broken; either way it must not keep the agent busy, nor fill its memory: a pod
may show as many places, under ever new names, as it likes.
"""

from __future__ import annotations

from collections import defaultdict

from crikpy.agent.places import LauncherPlace
from crikpy.aio.clock import Deadline

_FIRST_S = 20.0
_LONGEST_S = 600.0
_MOST_PLACES = 32
"""A pod with more such places than any sound one can have is left alone as a whole."""


class Suspensions:
    """All such places of a node."""

    def __init__(self) -> None:
        self._until: dict[str, dict[LauncherPlace, tuple[Deadline, float]]] = defaultdict(dict)
        """Pod → place → until when, and for how many seconds."""

    def covers(self, place: LauncherPlace) -> bool:
        """Say whether a place is to be left alone now."""
        places = self._until.get(place.pod_uid, {})
        if len(places) >= _MOST_PLACES:
            return True
        return place in places and not places[place][0].expired()

    def suspend(self, place: LauncherPlace) -> None:
        """Leave a place alone for a while, twice as long as the last time."""
        _, last_s = self._until[place.pod_uid].get(place, (None, _FIRST_S / 2))
        length_s = min(2 * last_s, _LONGEST_S)
        self._until[place.pod_uid][place] = (Deadline.after(length_s), length_s)

    def lift(self, place: LauncherPlace) -> None:
        """Forget what was: a sound launcher has lived there."""
        self._until.get(place.pod_uid, {}).pop(place, None)

    def forget(self, present: frozenset[str]) -> None:
        """Forget the places of pods that are no more."""
        for uid in self._until.keys() - present:
            del self._until[uid]
