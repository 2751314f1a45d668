"""A job that was restored into another container is confined by it, and finds its files there."""

from __future__ import annotations

import ctypes
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.capsules import ContainerJob, JobCapsule, job_words
from tests.integration.moving import Bench

pytestmark = [pytest.mark.criu, pytest.mark.vm]

_CONFINED = ("Uid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters")


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _confinement(job: JobCapsule) -> dict[int, dict[str, str]]:
    """Return what confines each process, by PID inside."""
    found = {}
    for outer, inner in job.members().items():
        status = _status(outer)
        found[inner] = {name: status[name] for name in _CONFINED}
    return found


def _limits(job: JobCapsule) -> dict[int, str]:
    """Return the resource limits of each process, by PID inside."""
    return {inner: Path(f"/proc/{outer}/limits").read_text() for outer, inner in job.members().items()}


def _cgroups(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


def _namespaces(pid: int) -> dict[str, str]:
    """Return all but the time's: CRIU gives the job one of its own, in which its clocks go on."""
    found = {path.name: os.readlink(path) for path in Path(f"/proc/{pid}/ns").iterdir()}
    return {name: link for name, link in found.items() if not name.startswith("time")}


def _descriptors(job: JobCapsule) -> dict[int, list[str]]:
    """Return what each process has open, by PID inside; kernel objects without their numbers."""
    found = {}
    for outer, inner in job.members().items():
        links = [os.readlink(path) for path in Path(f"/proc/{outer}/fd").iterdir()]
        found[inner] = sorted(re.sub(r"\[\d+\]", "[N]", link) for link in links)
    return found


def test_the_new_container_confines_the_job_as_the_old_one_did(container_bench: Bench) -> None:
    job = container_bench.begin("family", 3)
    before = _confinement(job)
    assert {facts["CapEff"] for facts in before.values()} == {"0000000000000000"}
    assert {(facts["NoNewPrivs"], facts["Seccomp"]) for facts in before.values()} == {("1", "2")}
    moved = container_bench.move(job)
    moved.prove()
    assert _confinement(moved) == before
    assert isinstance(moved, ContainerJob)
    for pid in moved.members():
        assert _namespaces(pid) == _namespaces(moved.launcher_pid)
        assert _cgroups(pid) == _cgroups(moved.launcher_pid)
    assert f"/{moved.container.name}\n" in _cgroups(moved.launcher_pid)


def test_nothing_of_ours_is_left_in_the_job_or_its_namespaces(container_bench: Bench) -> None:
    job = container_bench.begin("family", 3)
    descriptors, members = _descriptors(job), set(job.members().values())
    assert isinstance(job, ContainerJob)
    files = _files(job.container.upper)
    manifest = container_bench.save(job, leave_running=True)
    assert _descriptors(job) == descriptors
    assert _files(job.container.upper) == files
    moved = container_bench.vacant()
    assert isinstance(moved, ContainerJob)
    mounts = Path(f"/proc/{moved.launcher_pid}/mountinfo").read_text()
    with moved.held() as launcher:
        container_bench.restore(manifest, moved, launcher)
    moved.prove()
    assert Path(f"/proc/{moved.launcher_pid}/mountinfo").read_text() == mounts
    assert _descriptors(moved) == descriptors
    assert set(moved.members().values()) == members
    assert _files(moved.container.upper) == files


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_changed_new_and_removed_files_travel_on_disk_and_in_memory(container_bench: Bench) -> None:
    folders = ("/var/lib/crikpy-test/deep", "/tmp/crikpy-test", "/dev/shm/crikpy-test", "/root/crikpy-test")
    job = container_bench.begin("places", "/etc/issue.net", *folders)
    job.prove()
    moved = container_bench.move(job)
    moved.prove()
    again = container_bench.move(moved)
    again.prove()
    assert again.finish() == 0


def test_a_job_with_a_read_only_root_is_moved(container_bench: Bench) -> None:
    container_bench.read_only = True
    moved = container_bench.move(container_bench.begin("places", "/dev/shm/none", "/dev/shm/crikpy-test"))
    moved.prove()
    assert moved.finish() == 0


def test_a_job_of_another_user_is_moved(container_bench: Bench) -> None:
    container_bench.uid = 1000
    job = container_bench.vacant("prlimit", "--nofile=300:400", *job_words("files"))
    job.start()
    job.expect("ready")
    job.prove()
    confinement, limits = _confinement(job), _limits(job)
    assert {facts["Uid"] for facts in confinement.values()} == {"1000\t1000\t1000\t1000"}
    assert {facts["CapEff"] for facts in confinement.values()} == {"0000000000000000"}
    assert {(facts["NoNewPrivs"], facts["Seccomp"]) for facts in confinement.values()} == {("1", "2")}
    assert all(re.search(r"^Max open files +300 +400 ", text, re.MULTILINE) for text in limits.values())
    moved = container_bench.move(job)
    moved.prove()
    assert (_confinement(moved), _limits(moved)) == (confinement, limits)
    assert moved.finish() == 0


@contextmanager
def _watching(files: list[Path]) -> Iterator[list[str]]:
    """Note the names of those files that anybody opens (inotify(7)), in a list that is complete afterwards."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    names = {libc.inotify_add_watch(watch, os.fsencode(file), 0x20): str(file) for file in files}
    assert -1 not in names
    opened: list[str] = []
    try:
        yield opened
        while True:
            try:
                data = os.read(watch, 65536)
            except BlockingIOError:
                break
            while data:
                number, _, _, length = struct.unpack_from("iIII", data)
                opened.append(names[number])
                data = data[16 + length :]
    finally:
        os.close(watch)


_BAIT = (
    "/etc/ld.so.preload",
    "/etc/criu/default.conf",
    "/tmp/.criu/default.conf",
    "/usr/lib/criu/hostile.so",
    "/run/criu.kdat",
    "/usr/bin/sh",
    "/usr/sbin/iptables",
    "/usr/sbin/ip6tables",
    "/usr/sbin/iptables-restore",
    "/usr/sbin/nft",
    "/usr/local/sbin/sh",
    "/usr/local/sbin/iptables",
)


def test_nothing_that_a_hostile_image_holds_ready_for_criu_is_even_opened(container_bench: Bench) -> None:
    bait = dict.fromkeys(_BAIT, "#!/usr/bin/touch /caught\n") | {"/etc/ld.so.preload": ""}
    job = container_bench.vacant(*job_words("memory", 1, 1), changes=bait)
    job.start()
    job.expect("ready")
    capsule = replace(job.capsule, excluded=_BAIT)
    with _watching([Path(f"/proc/{job.launcher_pid}/root{path}") for path in _BAIT]) as opened:
        manifest = container_bench.save(job, capsule=capsule)
    assert opened == []
    moved = container_bench.vacant(changes=bait)
    with _watching([Path(f"/proc/{moved.launcher_pid}/root{path}") for path in _BAIT]) as opened:
        with moved.held() as launcher:
            container_bench.restore(manifest, moved, launcher)
        moved.prove()
    assert opened == []
