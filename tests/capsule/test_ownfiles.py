"""Which files are the container's own, and what a new container has in their place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crikpy.capsule.mounts import parse_mounts
from crikpy.capsule.ownfiles import Counterparts, is_own

_MOMENT, _OTHER = "..2025_01_31_12_00_00.123456789", "..2026_01_31_12_00_00.1"
_MOUNTS = parse_mounts(
    b"1 0 0:1 / / rw - overlay overlay rw\n"
    b"2 1 0:2 / /proc rw - proc proc rw\n"
    b"3 1 0:3 / /sys ro - sysfs sysfs ro\n"
    b"4 3 0:4 / /sys/fs/cgroup ro - tmpfs tmpfs rw\n"
    b"5 1 0:5 /pods/1/etc-hosts /etc/hosts rw - ext4 /dev/vda rw\n"
    b"6 1 0:5 /pods/1/volumes/kubernetes.io~configmap/c/" + _MOMENT.encode() + b"/app.conf /etc/app.conf ro"
    b" - ext4 /dev/vda rw\n"
    b"7 1 0:5 /pods/1/volumes/data /data rw - ext4 /dev/vda rw\n"
    b"8 1 0:6 / /debug rw - tracefs tracefs rw\n"
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/etc/hosts", True),
        ("/etc/resolv.conf", True),
        ("/dev/termination-log", True),
        ("/etc/passwd", False),
        ("/proc/9001/status", True),
        ("/sys/fs/cgroup/memory/memory.stat", True),
        ("/system/x", False),
        ("/debug/trace", True),
        (f"/var/run/secrets/kubernetes.io/serviceaccount/{_MOMENT}/token", True),
        ("/data/..2025_notes/x", False),
        ("/data/x", False),
        ("/etc/app.conf", True),
        ("/etc/app.conf.d/x", False),
    ],
)
def test_what_kubelet_and_the_kernel_make_is_own_and_nothing_else(path: str, expected: bool) -> None:
    assert is_own(path, _MOUNTS) is expected


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume as kubelet makes it, in this process's own root."""
    (tmp_path / _OTHER / "sub").mkdir(parents=True)
    (tmp_path / _OTHER / "key").write_text("new")
    (tmp_path / "..data").symlink_to(_OTHER)
    return tmp_path


def test_what_was_in_one_state_of_a_volume_is_found_in_its_present_one(volume: Path) -> None:
    found = Counterparts(os.getpid(), (), ())
    assert found.of(f"{volume}/{_MOMENT}/key") == f"{volume}/..data/key"
    assert found.of(f"{volume}/{_MOMENT}/gone") == "/dev/null"
    assert found.of(f"{volume}/{_MOMENT}", directory=True) == f"{volume}/..data"
    assert found.of(f"{volume}/{_MOMENT}/sub/gone", directory=True) == f"{volume}/..data/sub"
    assert found.of(f"{volume}/{_MOMENT}/key", removed=True) == "/dev/shm/key"


def test_all_other_files_are_looked_for_where_they_were(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    assert Counterparts(os.getpid(), (), ()).of(str(file)) is None
    assert Counterparts(os.getpid(), (), ()).of(str(file), removed=True) is None
    assert Counterparts(os.getpid(), (str(file),), ()).of(str(file)) == str(file)


def test_processes_of_the_job_are_there_when_it_is_asked_for_and_their_threads_are_not() -> None:
    found = Counterparts(os.getpid(), (), (9001,))
    assert found.of("/proc/9001/status") == "/proc/9001/status"
    assert found.of("/proc/9001/net/dev") == "/proc/9001/net/dev"
    assert found.of("/proc/9001", directory=True) == "/proc/9001"
    assert found.of("/proc/9001/task/9002/stat") == "/proc/9001/task/9001/stat"
    assert found.of("/proc/9001/task", directory=True) == "/proc/9001/task"
    assert found.of("/proc/1/stat") == "/proc/1/stat"
    assert found.of("/proc/4194305/stat") == "/dev/null"
    assert found.of("/sys/devices/nowhere/size") == "/dev/null"
