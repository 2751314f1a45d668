"""Whatever a process or a mount point is called, what the kernel says of it is read as the kernel means it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from crikpy.agent.peers import require_launcher
from crikpy.agent.sizing import held_bytes
from crikpy.capsule import entering, mounts, preflight, surveying
from crikpy.errors import LauncherError
from tests.capsule import hostile
from tests.capsule.containers import living_in
from tests.capsule.namespaces import inside, until


@pytest.mark.parametrize("name", hostile.NAMES)
def test_a_process_is_seen_as_it_is_whatever_its_name(name: bytes) -> None:
    with hostile.called(name) as pid:
        assert entering.inner_pid(pid) == pid
        (view,) = surveying.survey([pid]).views
        assert (view.fact.pid, view.fact.threads, view.tracer) == (pid, 1, 0)
        assert preflight.refusals([view]) == () or all("session" in why for why in preflight.refusals([view]))


@pytest.mark.parametrize("name", hostile.NAMES)
def test_a_process_does_not_become_the_first_of_a_container_by_its_name(name: bytes) -> None:
    with hostile.called(name) as pid, pytest.raises(LauncherError, match="is not the first process"):
        require_launcher(pid, "0" * 32)


def _names(init: int) -> list[bytes]:
    return [Path(f"/proc/{pid}/comm").read_bytes() for pid in entering.members(init)]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make namespaces")
@pytest.mark.parametrize("name", [b"\r kB", b"\ra kB", b"\r\x1c kB"])
def test_the_memory_of_a_job_is_counted_whatever_its_name(name: bytes) -> None:
    program = f"open('/proc/self/comm', 'wb').write({name!r}); print(flush=True); import time; time.sleep(99)"
    with inside(f"{sys.executable} -c {shlex.quote(program)} &") as init:
        until(lambda: bool(held_bytes([init])), "a job")
        until(lambda: name + b"\n" in _names(init), "its new name")
        assert held_bytes([init])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")
@pytest.mark.parametrize(
    "name", ["a b", "a\nb", "a\rb", "a\r1 2 0:3 rw - x x rw", "a\\040b", "\x1c\x85", "\udcff"]
)
def test_a_mount_point_is_seen_as_it_is_whatever_its_name(memory: Path, name: str) -> None:
    point = memory / name
    point.mkdir()
    with living_in([["-t", "tmpfs", "mine", str(point)]]) as pid:
        assert [mount.point for mount in mounts.read_mounts(pid) if mount.source == "mine"] == [str(point)]


def test_a_mapped_file_cannot_pass_for_another_by_its_name(tmp_path: Path) -> None:
    forged = "x\r7f0000000000-7f0000001000 rw-s 00000000 00:01 5   "
    folder = tmp_path / forged
    (folder / "SYSV00000000").mkdir(parents=True)
    file = folder / "SYSV00000000" / "f"
    file.write_bytes(b"x" * 4096)
    program = (
        "import mmap, sys; f = open(sys.argv[1], 'r+b'); mmap.mmap(f.fileno(), 0); print(flush=True); input()"
    )
    words = [sys.executable, "-c", program, str(file)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        found = surveying.survey([process.pid])
        assert process.stdin is not None
        process.stdin.close()
    assert str(file) in found.written
    assert not [why for why in preflight.refusals(found.views) if "System V" in why]
