"""Where a process's cgroups are found, by what kernels of every kind write into /proc."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.capsule import cgroups

V2 = r"""
22 28 0:21 / /proc rw,nosuid - proc proc rw
30 24 0:27 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
""".lstrip()

V1 = r"""
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:10 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
""".lstrip()

HYBRID = V1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"

POD = "/kubepods/burstable/pod7/c1"


def _resolve(membership: str, mountinfo: str) -> list[str]:
    return [str(path) for path in cgroups.resolve(membership, mountinfo)]


def test_on_version_2_there_is_one() -> None:
    assert _resolve(f"0::{POD}\n", V2) == [f"/sys/fs/cgroup{POD}/cgroup.procs"]


def test_the_root_cgroup_is_one_too() -> None:
    assert _resolve("0::/\n", V2) == ["/sys/fs/cgroup/cgroup.procs"]


def test_on_version_1_there_is_one_for_each_hierarchy() -> None:
    membership = f"5:pids:{POD}\n4:memory:{POD}/sub\n2:cpu,cpuacct:{POD}\n1:name=systemd:/\n"
    assert _resolve(membership, V1) == [
        f"/sys/fs/cgroup/pids{POD}/cgroup.procs",
        f"/sys/fs/cgroup/memory{POD}/sub/cgroup.procs",
        f"/sys/fs/cgroup/cpu,cpuacct{POD}/cgroup.procs",
        "/sys/fs/cgroup/systemd/cgroup.procs",
    ]


def test_on_the_hybrid_both_kinds_are_found() -> None:
    assert _resolve(f"4:memory:{POD}\n0::{POD}\n", HYBRID) == [
        f"/sys/fs/cgroup/memory{POD}/cgroup.procs",
        f"/sys/fs/cgroup/unified{POD}/cgroup.procs",
    ]


def test_controllers_are_found_in_whatever_order_they_were_mounted() -> None:
    mounted = "32 31 0:29 / /cg rw - cgroup cgroup rw,cpuacct,cpu\n"
    assert _resolve("2:cpu,cpuacct:/a\n", mounted) == ["/cg/a/cgroup.procs"]


def test_the_topmost_one_of_each_hierarchy_is_found_here() -> None:
    found = cgroups.topmost_files()
    assert found
    assert all((path.parent / "cgroup.procs").exists() for path in found)
    memberships = Path("/proc/self/cgroup").read_text().splitlines()
    assert len(found) <= len(memberships)


def test_a_hierarchy_that_is_not_mounted_is_left_out() -> None:
    assert _resolve(f"9:hugetlb:{POD}\n4:memory:/\n0::/\n", V1) == ["/sys/fs/cgroup/memory/cgroup.procs"]
    assert _resolve("4:memory:/\n", V2) == []


def test_a_controller_is_not_found_by_the_beginning_of_its_name() -> None:
    assert _resolve("3:cpu:/a\n", "34 31 0:31 / /cg rw - cgroup cgroup rw,cpuset\n") == []


def test_of_a_mount_that_shows_a_part_only_what_lies_below_is_found() -> None:
    part = f"30 24 0:27 {POD} /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
    assert _resolve(f"0::{POD}\n", part) == ["/sys/fs/cgroup/cgroup.procs"]
    assert _resolve(f"0::{POD}/job\n", part) == ["/sys/fs/cgroup/job/cgroup.procs"]
    assert _resolve(f"0::{POD}0/job\n", part) == []
    assert _resolve("0::/kubepods\n", part) == []


def test_a_mount_that_does_not_show_the_cgroup_gives_way_to_one_that_does() -> None:
    mounts = "30 24 0:27 /other /a rw - cgroup2 cgroup rw\n31 24 0:27 / /b rw - cgroup2 cgroup rw\n"
    assert _resolve("0::/mine\n", mounts) == ["/b/mine/cgroup.procs"]


@pytest.mark.parametrize("path", ["/..", "/../other", "/../../kubepods/pod8/c1"])
def test_a_cgroup_outside_of_our_cgroup_namespace_is_left_out(path: str) -> None:
    assert _resolve(f"0::{path}\n", V2) == []


def test_escaped_characters_of_mounts_are_themselves() -> None:
    mounts = r"30 24 0:27 /with\040space /mnt/a\011b\134c\012d rw - cgroup2 cgroup\040two rw" + "\n"
    assert _resolve("0::/with space/x\n", mounts) == ["/mnt/a\tb\\c\nd/x/cgroup.procs"]


def test_a_colon_in_a_path_belongs_to_the_path() -> None:
    assert _resolve("0::/system.slice:docker:c1\n", V2) == ["/sys/fs/cgroup/system.slice:docker:c1/cgroup.procs"]


def test_this_process_is_in_the_cgroups_that_are_found() -> None:
    found = cgroups.procs_files(os.getpid())
    for path in found:
        if path.exists():
            assert str(os.getpid()) in path.read_text().split()
    assert found


def _escape(text: str) -> str:
    return "".join(f"\\{ord(char):03o}" if char in " \t\n\\" else char for char in text)


_NAMES = st.text(st.characters(exclude_characters="/\n\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
_PATHS = st.lists(_NAMES.filter(lambda name: name not in {".", ".."}), max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


@given(
    root=_PATHS, point=_PATHS, below=_PATHS, controllers=st.sampled_from(["", "memory", "cpu,cpuacct", "name=x"])
)
def test_any_names_are_found_where_they_are_mounted(root: str, point: str, below: str, controllers: str) -> None:
    options = f"rw,{controllers}" if controllers else "rw"
    kind = "cgroup" if controllers else "cgroup2"
    mounts = f"1 0 0:1 {_escape(root)} {_escape(point)} rw,relatime shared:1 - {kind} none {options}\n"
    path = f"{root.rstrip('/')}{below}" if below != "/" else root
    assert cgroups.resolve(f"7:{controllers}:{path}\n", HYBRID.replace("cgroup", "tmpfs") + mounts) == (
        Path(point) / below.lstrip("/") / "cgroup.procs",
    )


def _limited(folder: Path, version: int, most: str, used: int, reclaimable: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    limit, usage, file = (
        ("memory.max", "memory.current", "inactive_file")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    (folder / limit).write_text(f"{most}\n")
    (folder / usage).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{file} {reclaimable}\nshmem 0\n")


@pytest.mark.parametrize("version", [1, 2])
def test_the_narrowest_memory_limit_on_the_way_up_counts(tmp_path: Path, version: int) -> None:
    container = tmp_path / "pods/pod7/c1"
    _limited(container, version, "1000", 400, 100)
    assert cgroups.least_room([tmp_path / "elsewhere", container]) == 700
    _limited(container.parent, version, "1000", 900, 50)
    assert cgroups.least_room([container]) == 150


@pytest.mark.parametrize(("version", "unlimited"), [(1, str((1 << 63) - 4096)), (2, "max")])
def test_no_memory_limit_is_none(tmp_path: Path, version: int, unlimited: str) -> None:
    _limited(tmp_path / "c1", version, unlimited, 400, 100)
    assert cgroups.least_room([tmp_path / "c1"]) is None


def test_more_than_the_limit_leaves_nothing(tmp_path: Path) -> None:
    _limited(tmp_path / "c1", 2, "100", 400, 100)
    assert cgroups.least_room([tmp_path / "c1"]) == 0
