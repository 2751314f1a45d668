"""Answers that are good for a while, so that nobody is asked for each of them all the time. Asks nobody itself."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)
_T = TypeVar("_T")


class Kept(Generic[_K, _T]):
    """So many answers at most; the oldest go first.

    Args:
        good_s: how long an answer is good.
        most: how many are kept.
    """

    def __init__(self, good_s: float, most: int) -> None:
        self._good_s = good_s
        self._most = most
        self._answers: OrderedDict[_K, tuple[float, _T]] = OrderedDict()

    def get(self, key: _K) -> tuple[bool, _T | None]:
        """Return whether there is an answer that is still good, and it."""
        until, answer = self._answers.get(key, (0.0, None))
        return time.monotonic() < until, answer

    def put(self, key: _K, answer: _T) -> None:
        """Keep an answer."""
        self._answers[key] = (time.monotonic() + self._good_s, answer)
        self._answers.move_to_end(key)
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)
