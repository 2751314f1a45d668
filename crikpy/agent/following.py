"""Following objects of the API server with a task for each that asks for one; what they do is not known here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

from crikpy.aio.tasks import stop
from crikpy.kube.changes import Change
from crikpy.kube.watching import Mirror

_T = TypeVar("_T")


async def follow(
    mirror: Mirror[_T], take: Callable[[Change, _T], None], tasks: Mapping[str, asyncio.Task[None]]
) -> None:
    """Hand over every change of a mirror for ever; cancel to stop, which ends the tasks too and waits for them."""
    watching = asyncio.create_task(mirror.run(), name="a mirror")
    try:
        with mirror.subscribe() as changes:
            async for change, item in changes:
                take(change, item)
    finally:
        for task in [watching, *tasks.values()]:
            await stop(task)
