"""Places where somebody misbehaved in a launcher's place: left alone, each time for longer.

What listens there may be hostile or broken; either way it must not keep the agent busy.
"""

from __future__ import annotations

from crikpy.agent.places import LauncherPlace
from crikpy.aio.clock import Deadline

_FIRST_S = 20.0
_LONGEST_S = 600.0


class Suspensions:
    """All such places of a node."""

    def __init__(self) -> None:
        self._until: dict[LauncherPlace, tuple[Deadline, float]] = {}

    def covers(self, place: LauncherPlace) -> bool:
        """Say whether a place is to be left alone now."""
        return place in self._until and not self._until[place][0].expired()

    def suspend(self, place: LauncherPlace) -> None:
        """Leave a place alone for a while, twice as long as the last time."""
        _, last_s = self._until.get(place, (None, _FIRST_S / 2))
        length_s = min(2 * last_s, _LONGEST_S)
        self._until[place] = (Deadline.after(length_s), length_s)

    def lift(self, place: LauncherPlace) -> None:
        """Forget what was: a sound launcher has lived there."""
        self._until.pop(place, None)

    def forget(self, present: frozenset[str]) -> None:
        """Forget the places of pods that are no more."""
        for place in [place for place in self._until if place.pod_uid not in present]:
            del self._until[place]
