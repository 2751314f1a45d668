"""Memory that runs out: a cgroup with a bound, on cgroup v1 or v2, and a program that eats what is left in it."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from crikpy.capsule import cgroups
from tests.integration.capsules import until

MIB: Final = 1024 * 1024
_EATER: Final = "import sys; hold = [b'x' * 2**20 for _ in range(int(sys.argv[1]))]"


class MemoryGroup:
    """A cgroup that bounds the memory of its processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unified = (folder / "memory.max").exists()

    def bound(self, mebibytes: int) -> None:
        """Let its processes have so much, swap included."""
        if self._unified:
            (self._folder / "memory.max").write_text(str(mebibytes * MIB))
            with contextlib.suppress(FileNotFoundError):
                (self._folder / "memory.swap.max").write_text("0")
            return
        bounds = [self._folder / f"memory.{kind}" for kind in ("limit_in_bytes", "memsw.limit_in_bytes")]
        # The second must never be below the first.
        raised = mebibytes * MIB > int(bounds[0].read_text())
        for bound in filter(Path.exists, reversed(bounds) if raised else bounds):
            bound.write_text(str(mebibytes * MIB))

    def used(self) -> int:
        """Return how much its processes have, in mebibytes, rounded up."""
        name = "memory.current" if self._unified else "memory.usage_in_bytes"
        return int((self._folder / name).read_text()) // MIB + 1

    def take(self, pid: int) -> None:
        """Put a process into it; its memory of before is counted where it was."""
        (self._folder / "cgroup.procs").write_text(str(pid))

    def entered(self) -> tuple[str, ...]:
        """Return words that go in front of a command and have it run in here."""
        return ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._folder / "cgroup.procs"))

    def eat(self, mebibytes: int) -> None:
        """Have another process in here use so much for a moment."""
        subprocess.run((*self.entered(), sys.executable, "-S", "-c", _EATER, str(mebibytes)), check=False)

    def kills(self) -> int:
        """Return how many of its processes the kernel has killed for want of memory."""
        name = "memory.events" if self._unified else "memory.oom_control"
        facts = dict(line.split() for line in (self._folder / name).read_text().splitlines())
        return int(facts["oom_kill"])

    def kill(self) -> None:
        """Kill all that is in it, as a container runtime ends a container, and the kernel one without memory."""
        while pids := (self._folder / "cgroup.procs").read_text().split():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)

    def empty(self) -> bool:
        """Say whether no process is in it."""
        return not (self._folder / "cgroup.procs").read_text().strip()


@contextlib.contextmanager
def memory_group(mebibytes: int) -> Iterator[MemoryGroup]:
    """Lend a cgroup with this bound; whoever is in it must have ended."""
    folder = _memory_root() / f"crikpy-test-{secrets.token_hex(4)}"
    try:
        folder.mkdir()
    except OSError as fault:
        pytest.skip(f"no cgroup can be made here: {fault}")
    try:
        group = MemoryGroup(folder)
        group.bound(mebibytes)
        yield group
        until(group.empty, "the end of everything in the cgroup")
    finally:
        folder.rmdir()


def _memory_root() -> Path:
    """Return the folder of the topmost cgroup in which memory can be bounded."""
    for place in cgroups.resolve("1:memory:/\n0::/\n", Path("/proc/self/mountinfo").read_text()):
        root = place.parent
        controllers = root / "cgroup.subtree_control"
        if not controllers.exists() or "memory" in controllers.read_text().split():
            return root
    pytest.skip("no cgroup here bounds memory")
