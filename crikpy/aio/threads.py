"""Threads that know what their starter works on: records and spans made in them are about the same.

The rest of crikpy begins no threads but by these; `asyncio.to_thread` does the same by itself.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Thread(threading.Thread):
    """A thread that runs its target in a copy of the context in which it was made."""

    def __init__(
        self, target: Callable[..., object], args: tuple[Any, ...] = (), *, name: str, daemon: bool | None = None
    ) -> None:
        context = contextvars.copy_context()
        super().__init__(target=context.run, args=(target, *args), name=name, daemon=daemon)


class Pool(ThreadPoolExecutor):
    """A pool of threads, each piece of work in a copy of the context of whoever asked for it."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Have something done in a thread."""
        context = contextvars.copy_context()
        return super().submit(lambda: context.run(fn, *args, **kwargs))
