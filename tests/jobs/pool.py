"""A job that uses multiprocessing as training programs do: workers, queues, shared memory, semaphores, a server.

The start method is the first argument. The server listens on a Unix socket below the temporary directory.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.context import ForkContext, SpawnContext
from multiprocessing.managers import SyncManager
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING

from tests.jobs import proving

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Lock, Semaphore

_WORKERS = 3
_SHARED = "crikpy-test-numbers"


def work(
    number: int, tasks: Queue[int], results: Queue[tuple[int, int]], lock: Lock, free: Semaphore, name: str
) -> None:
    """Add each task to a byte of the shared memory and report the sum."""
    memory = SharedMemory(name)
    numbers = _numbers(memory)
    while (task := tasks.get()) >= 0:
        with free, lock:
            numbers[number] = (numbers[number] + task) % 256
            results.put((number, numbers[number]))


def _numbers(memory: SharedMemory) -> memoryview:
    assert memory.buf is not None, "closed"
    return memory.buf


class Workers:
    """Three workers that share memory, a lock, a semaphore and a queue of results."""

    def __init__(self, context: ForkContext | SpawnContext, name: str) -> None:
        self._memory = SharedMemory(name, create=True, size=4096)
        _numbers(self._memory)[:_WORKERS] = bytes(_WORKERS)
        self._lock = context.Lock()
        self._free = context.BoundedSemaphore(2)
        self._results: Queue[tuple[int, int]] = context.Queue()
        self._tasks: list[Queue[int]] = [context.Queue() for _ in range(_WORKERS)]
        for number, tasks in enumerate(self._tasks):
            shared = (number, tasks, self._results, self._lock, self._free, name)
            context.Process(target=work, args=shared, daemon=True).start()
        self._total = 0

    def prove(self, count: int) -> None:
        """Fail unless every worker does its task once."""
        self._total += count
        for tasks in self._tasks:
            tasks.put(count)
        found = sorted(self._results.get(timeout=10) for _ in self._tasks)
        proving.check_equal(found, [(number, self._total) for number in range(_WORKERS)], "sums of the workers")
        proving.check_equal(
            bytes(_numbers(self._memory)[:_WORKERS]), bytes([self._total]) * _WORKERS, "shared memory"
        )


def main() -> None:
    """Begin everything, then prove it."""
    proving.block()
    context = multiprocessing.get_context(sys.argv[1])
    assert isinstance(context, ForkContext | SpawnContext)
    workers = Workers(context, f"{_SHARED}-{os.getpid()}")
    server = SyncManager(ctx=context)
    server.start()
    listed = server.list([0])

    def prove(count: int) -> None:
        workers.prove(count)
        listed.append(count)
        proving.check_equal(list(listed), list(range(count + 1)), "the server's list")
        late = server.dict(count=count)  # a new connection to the server's socket
        proving.check_equal(dict(late), {"count": count}, "the server's new object")

    proving.stand_by(prove)
    os._exit(0)


if __name__ == "__main__":
    main()
