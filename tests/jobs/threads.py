"""A job of one process with many threads, each with memory of its own and waiting for a lock of its own."""

from __future__ import annotations

import queue
import sys
import threading
from pathlib import Path

from tests.jobs import proving


class Worker:
    """A thread that adds up what it is told, in a variable that only it can reach."""

    def __init__(self, number: int) -> None:
        self._tasks: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self._number = number
        self._expected = number
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        self._tid = self._thread.native_id

    def tell(self, value: int) -> None:
        """Have it add a number."""
        self._expected += value
        self._tasks.put(value)

    def prove(self) -> None:
        """Fail unless it has the right sum and the PID that it was born with."""
        proving.check_equal(self._results.get(timeout=5), (self._expected, self._tid), f"thread {self._number}")

    def _work(self) -> None:
        own = threading.local()
        own.total = self._number
        while True:
            own.total += self._tasks.get()
            self._results.put((own.total, threading.get_native_id()))


def main() -> None:
    """Start as many threads as the first argument says."""
    proving.block()
    threading.stack_size(128 * 1024)
    workers = [Worker(number) for number in range(int(sys.argv[1]))]

    def prove(count: int) -> None:
        for worker in workers:
            worker.tell(count)
        for worker in workers:
            worker.prove()
        proving.check_equal(len(list(Path("/proc/self/task").iterdir())), len(workers) + 1, "threads")

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
