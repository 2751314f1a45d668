"""A job whose processes pretend to use CUDA: each has a device open, and memory that lies outside of it, on a
"GPU".

Argument: how many processes. The memory of a GPU is a file below /gpu, which is not the container's own, so that
it does not travel: what is not brought into the process is lost. A file that was deleted while open, of 64 KiB, is
there for tests that have CRIU refuse it. A thread does what the stand-in of cuda-checkpoint asks for through a
letter box below /tmp/gpu; a call of "CUDA" waits while the process is locked, and fails after CUDA has failed.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

from tests.jobs import proving

SIZE = 1024 * 1024
DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-uvm")


class Cuda:
    """One process's CUDA."""

    def __init__(self) -> None:
        self._box = Path(f"/tmp/gpu/{os.getpid()}")
        self._box.mkdir(parents=True, exist_ok=True)
        self._gpu = Path("/gpu") / os.urandom(8).hex()
        self._in_memory = b""
        self._devices: list[int] = []
        self._going = threading.Condition()
        self._set("running")
        self._open()
        self._gpu.write_bytes(os.urandom(SIZE))
        self._sum = self._hash()
        threading.Thread(target=self._serve, daemon=True).start()

    def prove(self) -> None:
        """Do some work on the GPU: see that its memory is what it was, and change it."""
        with self._going:
            self._going.wait_for(lambda: self._state in {"running", "failed"})
            if self._state == "failed":
                raise AssertionError("CUDA has failed")
            proving.check_equal(self._hash(), self._sum, "memory of the GPU")
            self._gpu.write_bytes(os.urandom(SIZE))
            self._sum = self._hash()

    def _hash(self) -> str:
        return hashlib.blake2b(self._gpu.read_bytes()).hexdigest()

    def _serve(self) -> None:
        while True:
            with contextlib.suppress(FileNotFoundError):
                act = (self._box / "order").read_text().split()[0]
                with self._going:
                    getattr(self, f"_{act}")()
                    self._going.notify_all()
                (self._box / "order").unlink()
            time.sleep(0.002)

    def _lock(self) -> None:
        self._set("locked")

    def _checkpoint(self) -> None:
        self._in_memory = self._gpu.read_bytes()
        self._gpu.unlink()
        if not Path("/gpu/leave-open").exists():
            while self._devices:
                os.close(self._devices.pop())
        self._set("checkpointed")

    def _restore(self) -> None:
        self._open()
        self._gpu.write_bytes(self._in_memory)
        self._in_memory = b""
        self._set("locked")

    def _unlock(self) -> None:
        self._set("running")

    def _break(self) -> None:
        self._set("failed")

    def _open(self) -> None:
        self._devices += [os.open(device, os.O_RDWR | os.O_CLOEXEC) for device in DEVICES]

    def _set(self, state: str) -> None:
        self._state = state
        draft = self._box / "said"
        draft.write_text(state)
        draft.rename(self._box / "state")


def worker(ends: Connection) -> None:
    """Prove when asked."""
    proving.block()
    cuda = Cuda()
    ends.send("ready")
    while ends.recv():
        cuda.prove()
        ends.send("proved")


def main() -> None:
    """Start the processes, then have all of them prove."""
    proving.block()
    with tempfile.TemporaryFile() as ghost:
        ghost.write(bytes(65536))
        ghost.flush()
        _run()


def _run() -> None:
    spawn = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    for _ in range(int(sys.argv[1])):
        ours, theirs = spawn.Pipe()
        spawn.Process(target=worker, args=(theirs,), daemon=True).start()
        theirs.close()
        ours.recv()
        pipes.append(ours)

    def prove(count: int) -> None:
        for pipe in pipes:
            pipe.send(True)
        for pipe in pipes:
            proving.check_equal(pipe.recv(), "proved", f"proof {count}")

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
