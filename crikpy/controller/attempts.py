"""When an act may be tried again: later and later after failures, and not at once after a success.

Plans are made from mirrors that lag behind the API server; what was just done may still be missing in the next
picture and be planned once more. So an act that went well rests a moment, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

_ECHO_S = 2.0
"""How long after a success a mirror may still not show it."""

_FIRST_S = 1.0
_LONGEST_S = 10.0
"""With two minutes in all, no act may rest for long, however often it failed."""


@dataclass(frozen=True, slots=True)
class _Rest:
    until: float
    failures: int


class Attempts:
    """The rest of each act, by its key.

    Args:
        clock: seconds, monotonic.
        echo_s: how long an act rests after a success.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, echo_s: float = _ECHO_S) -> None:
        self._clock = clock
        self._echo_s = echo_s
        self._rests: dict[str, _Rest] = {}

    def may_begin(self, key: str) -> bool:
        """Say whether an act has rested enough."""
        rest = self._rests.get(key)
        return rest is None or self._clock() >= rest.until

    def succeeded(self, key: str) -> None:
        """Let an act rest until mirrors show it."""
        self._rests[key] = _Rest(self._clock() + self._echo_s, 0)

    def failed(self, key: str) -> int:
        """Let an act rest longer than the last time; returns how often in a row it has failed."""
        before = self._rests.get(key)
        failures = 1 + (before.failures if before else 0)
        pause_s = min(_FIRST_S * 2 ** (failures - 1), _LONGEST_S)
        self._rests[key] = _Rest(self._clock() + pause_s, failures)
        return failures

    def forget_except(self, keys: Collection[str]) -> None:
        """Forget the acts that nobody plans any more; a success is remembered until its rest is over."""
        now = self._clock()
        self._rests = {key: rest for key, rest in self._rests.items() if key in keys or now < rest.until}
