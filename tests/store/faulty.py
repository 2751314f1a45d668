"""A store that counts what it is asked, and that fails or waits when a test says so."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

from crikpy.aio.clock import Deadline
from crikpy.errors import CrikpyError
from crikpy.model.workload import Workload
from crikpy.store.base import ObjectInfo, ObjectStore


class FaultyStore:
    """Passes every call on to a real store.

    Attributes:
        calls: how often each method was called.
        got: keys in the order in which they were asked for.
        write_fault: raised by each write from now on, in its place.
        lost_answer: raised by each conditional write from now on, after it has taken effect.
        flips: so many of the next gets come with a bit flipped.
        gate: puts and gets wait until it is set.
        waiting: set when one waits at the gate.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.got: list[str] = []
        self.write_fault: CrikpyError | None = None
        self.lost_answer: CrikpyError | None = None
        self.flips = 0
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()

    @property
    def url(self) -> str:
        return self._store.url

    def get(self, key: str) -> bytes | memoryview:
        self._count("get", key)
        self._pass_gate()
        data = self._store.get(key)
        with self._lock:
            if self.flips > 0:
                self.flips -= 1
                middle = len(data) // 2
                return bytes(data[:middle]) + bytes([data[middle] ^ 1]) + bytes(data[middle + 1 :])
        return data

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        self._count("get_tagged")
        return self._store.get_tagged(key)

    def put(self, key: str, data: bytes | memoryview) -> None:
        self._count("put")
        self._pass_gate()
        self._fail()
        self._store.put(key, data)

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        self._count("put_if_absent")
        self._fail()
        written = self._store.put_if_absent(key, data)
        if self.lost_answer is not None:
            raise self.lost_answer
        return written

    def replace(self, key: str, data: bytes | memoryview, tag: str) -> str | None:
        self._count("replace")
        self._fail()
        return self._store.replace(key, data, tag)

    def delete(self, key: str) -> None:
        self._count("delete")
        self._store.delete(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._count("list")
        return self._store.list(prefix)

    def folders(self, prefix: str) -> Iterator[str]:
        return self._store.folders(prefix)

    def make_ready(self, workload: Workload, deadline: Deadline) -> None:
        self._store.make_ready(workload, deadline)

    def check(self) -> None:
        self._store.check()

    def close(self) -> None:
        self._store.close()

    def _count(self, call: str, key: str = "") -> None:
        with self._lock:
            self.calls[call] += 1
            if key:
                self.got.append(key)

    def _fail(self) -> None:
        if self.write_fault is not None:
            raise self.write_fault

    def _pass_gate(self) -> None:
        if not self.gate.is_set():
            self.waiting.set()
            assert self.gate.wait(60), "a test forgot to open the gate"
