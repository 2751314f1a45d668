"""The retry policies of crikpy, all of them: only errors that say so themselves are tried again.

boto3 repeats single requests by itself; nothing here is laid over a call that already repeats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tenacity

from crikpy.aio.clock import Deadline
from crikpy.errors import CrikpyError

_T = TypeVar("_T")


def is_retryable(error: BaseException) -> bool:
    """Say whether the same act may succeed when tried again."""
    return isinstance(error, CrikpyError) and error.retryable


def call(
    act: Callable[[], _T], *, deadline: Deadline, first_wait_s: float = 0.2, longest_wait_s: float = 5.0
) -> _T:
    """Do something until it succeeds, fails for good, or the deadline comes; the last error is raised then."""
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_retryable),
        wait=tenacity.wait_exponential(multiplier=first_wait_s, max=longest_wait_s)
        + tenacity.wait_random(0, first_wait_s),
        stop=lambda state: deadline.remaining() <= state.upcoming_sleep,
        reraise=True,
    ):
        with attempt:
            return act()
    raise AssertionError("unreachable: the last error is raised above")
