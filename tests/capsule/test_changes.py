"""What of a capsule's files travels: decided over real mount namespaces."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import crikpy
from crikpy.capsule import mounts
from crikpy.capsule.changes import Place, inherited_memory, mounts_to_spare, place_of, places_of, plan_changes
from crikpy.capsule.members import CarriedTree
from crikpy.errors import FilesystemError, NoSuchJobError
from crikpy.model.capsule import Capsule
from crikpy.model.manifest import FileArchive
from tests.capsule import trees
from tests.capsule.containers import living_in


def _capsule(pid: int, *, carried: tuple[str, ...] = (), excluded: tuple[str, ...] = ()) -> Capsule:
    return Capsule(launcher_pid=pid, socket=Path("/x"), carried=carried, excluded=excluded)


def _by_root(plan: tuple[CarriedTree, ...]) -> dict[str, CarriedTree]:
    return {tree.root: tree for tree in plan}


def _names(tree: CarriedTree) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(trees.capture(tree)[0])) as archive:
        return archive.getnames()


@pytest.fixture
def container(memory: Path) -> Iterator[tuple[int, Path]]:
    """Lend the PID of a process in a container, and the directory that takes its root's changes."""
    lower, upper, work, root = (memory / name for name in ("lower", "up per", "work", "root"))
    for name in ("proc", "sys", "dev", "run/secrets/token", "data", "files", "data2", "mem"):
        (lower / name).mkdir(parents=True)
    for path in (upper, work, root, memory / "disk", memory / "lent"):
        path.mkdir()
    (memory / "lent/..data").symlink_to("gone")
    (memory / "resolv").write_text("nameserver")
    (lower / "files/resolv").touch()
    (lower / "log").write_text("of the image")
    plan = [
        ["-t", "proc", "proc", f"{root}/proc"],
        ["-t", "tmpfs", "tmpfs", f"{root}/dev"],
        ["-t", "tmpfs", "-o", "X-mount.mkdir", "shm", f"{root}/dev/shm"],
        ["-t", "tmpfs", "-o", "X-mount.mkdir", "firmware", f"{root}/sys/firmware"],
        ["-t", "tmpfs", "token", f"{root}/run/secrets/token"],
        ["--bind", str(memory / "disk"), f"{root}/data"],
        ["--bind", str(memory / "resolv"), f"{root}/files/resolv"],
        ["-t", "tmpfs", "mem", f"{root}/mem"],
        ["-t", "tmpfs", "-o", "X-mount.mkdir", "inner", f"{root}/mem/inner"],
        ["-t", "tmpfs", "-o", "ro,X-mount.mkdir", "fixed", f"{root}/mem/fixed"],
        ["--bind", "-o", "X-mount.mkdir", str(memory / "lent"), f"{root}/mem/secret"],
        ["--bind", "-o", "X-mount.mkdir", f"{root}/mem/inner", f"{root}/mem/twice"],
    ]
    layers = f"lowerdir={lower},upperdir={upper},workdir={work}"
    with trees.mounted("-t", "overlay", "overlay", "-o", layers, str(root)), living_in(plan, root) as pid:
        yield pid, upper


def test_a_container_carries_its_changes_and_its_memory_filesystems(container: tuple[int, Path]) -> None:
    pid, upper = container
    plan = plan_changes(_capsule(pid), [])
    # /data is a tmpfs here too, since the tests' directory is one; on a node it would be a disk.
    assert [(tree.kind, tree.root) for tree in plan] == [
        ("overlay", "/"),
        ("tree", "/data"),
        ("tree", "/dev/shm"),
        ("tree", "/mem"),
        ("tree", "/mem/inner"),
    ]
    assert plan[0].source == upper
    assert plan[0].marks == "trusted.overlay."
    assert {".crikpy", "run/criu.kdat", "proc", "dev", "data", "files/resolv", "mem"} <= plan[0].skipped
    assert _by_root(plan)["/mem"].skipped == {"inner", "fixed", "secret", "twice"}


def test_the_plan_of_a_container_can_be_captured(container: tuple[int, Path]) -> None:
    pid, _ = container
    root = Path(f"/proc/{pid}/root")
    (root / "log").write_text("changed")
    (root / "mem/f").write_text("in memory")
    (root / "run/criu.kdat").touch()
    (root / "dev/null2").touch()
    names = {tree.root: _names(tree) for tree in plan_changes(_capsule(pid), [])}
    assert names["/"] == [".", "log", "run", "sys"]
    assert names["/mem"] == [".", "f"]


def test_nothing_of_an_excluded_directory_travels(container: tuple[int, Path]) -> None:
    pid, _ = container
    plan = plan_changes(_capsule(pid, excluded=("/mem/", "/data", "/log", "/dev/shm/big")), ["/mem/f", "/log"])
    assert [tree.root for tree in plan] == ["/", "/dev/shm"]
    assert "log" in plan[0].skipped
    assert plan[1].skipped == {"big"}


def test_carried_directories_come_once(container: tuple[int, Path]) -> None:
    pid, _ = container
    (Path(f"/proc/{pid}/root") / "mem/sub").mkdir()
    carried = ("/data2", "/mem/sub", "/run/secrets/token", "/gone/away")
    roots = [tree.root for tree in plan_changes(_capsule(pid, carried=carried), [])]
    assert roots == ["/", "/data", "/dev/shm", "/mem", "/mem/inner", "/run/secrets/token"]


def test_one_place_seen_by_two_paths_is_one(container: tuple[int, Path]) -> None:
    pid, _ = container
    seen = mounts.read_mounts(pid)
    assert place_of("/mem/inner/deep/file", seen) == place_of("/mem/twice/deep/file", seen)
    assert place_of("/mem/inner/deep", seen).lies_in([place_of("/mem/twice", seen)])
    assert not place_of("/mem/inner", seen).lies_in([place_of("/mem", seen), place_of("/mem/twice/deep", seen)])
    assert place_of("/", seen).path == "/"
    assert place_of("/data/f", seen).path.endswith("/disk/f")
    assert not Place("0:1", "/data2").lies_in([Place("0:1", "/data"), Place("0:2", "/data2")])


def test_what_travels_with_another_capsule_does_not_travel_again(container: tuple[int, Path]) -> None:
    pid, _ = container
    (Path(f"/proc/{pid}/root") / "mem/f").write_text("open for writing")
    seen = mounts.read_mounts(pid)
    all_of_it = plan_changes(_capsule(pid), ["/mem/f"])
    assert Place(*_device_and_path("/mem", seen)) in places_of(all_of_it, seen)
    elsewhere = [place_of("/mem", seen), place_of("/mem/twice", seen)]
    plan = plan_changes(_capsule(pid), ["/mem/f"], elsewhere=elsewhere)
    assert [tree.root for tree in plan] == ["/", "/data", "/dev/shm"]
    assert [
        tree.root for tree in plan_changes(_capsule(pid), ["/mem/f"], elsewhere=places_of(all_of_it, seen))
    ] == ["/"]


def _device_and_path(point: str, seen: tuple[mounts.Mount, ...]) -> tuple[str, str]:
    (mount,) = (mount for mount in seen if mount.point == point)
    return mount.device, mount.root


@pytest.mark.parametrize("carried", ["/log", "/to-data", "/to-data/below", "data", "/data/../etc"])
def test_only_real_directories_are_carried(container: tuple[int, Path], carried: str) -> None:
    pid, _ = container
    (Path(f"/proc/{pid}/root") / "to-data").symlink_to("/data")
    with pytest.raises(FilesystemError):
        plan_changes(_capsule(pid, carried=(carried,)), [])


def test_an_unreachable_upper_directory_is_refused(container: tuple[int, Path], tmp_path: Path) -> None:
    pid, _ = container
    with pytest.raises(FilesystemError, match="are not at"):
        plan_changes(_capsule(pid), [], node_root=tmp_path)


@pytest.fixture
def machine(memory: Path) -> Iterator[tuple[int, Path]]:
    """Lend the PID of a process in a capsule of a plain machine, and a directory of the machine's disk."""
    private, disk = memory / "private", memory / "disk"
    for path in (private, disk / "tmp", disk / "own", disk / "net"):
        path.mkdir(parents=True)
    plan = [
        ["--bind", str(private), f"{disk}/tmp"],
        ["-t", "tmpfs", "shm", "/dev/shm"],
        ["-t", "tmpfs", "own", f"{disk}/own"],
    ]
    with living_in(plan) as pid:
        yield pid, disk


def test_a_plain_machine_keeps_its_own_files_and_its_own_memory_filesystems(machine: tuple[int, Path]) -> None:
    pid, disk = machine
    plan = plan_changes(_capsule(pid, carried=(f"{disk}/tmp",)), [])
    assert [(tree.kind, tree.root) for tree in plan] == [
        ("tree", "/dev/shm"),
        ("tree", f"{disk}/own"),
        ("tree", f"{disk}/tmp"),
    ]


def test_a_memory_filesystem_that_the_node_has_unmounted_since_stays_the_nodes(memory: Path) -> None:
    # As /run/user/1000 would be elsewhere: its owner logs out, and the capsule still has it.
    theirs, ours = memory / "theirs", memory / "ours"
    for path in (theirs, ours):
        path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "theirs", str(theirs)], check=True)
    try:
        (theirs / "secret").write_text("of somebody else")
        with living_in([["-t", "tmpfs", "shm", "/dev/shm"]]) as pid:
            inherited = inherited_memory(pid)
            subprocess.run(["umount", str(theirs)], check=True)
            enter = ["nsenter", "-t", str(pid), "-m", "mount", "-t", "tmpfs", "ours", str(ours)]
            subprocess.run(enter, check=True)
            capsule = replace(_capsule(pid), inherited=inherited)
            assert list(_by_root(plan_changes(capsule, []))) == ["/dev/shm", str(ours)]
    finally:
        subprocess.run(["umount", "--quiet", str(theirs)], check=False)


def test_a_machine_whose_own_root_is_an_overlay_does_not_travel(memory: Path) -> None:
    # As when `crikpy run` is tried inside a container.
    for name in ("upper", "work", "root"):
        (memory / name).mkdir()
    layers = f"lowerdir=/,upperdir={memory}/upper,workdir={memory}/work"
    plan = [
        ["-t", "overlay", "overlay", "-o", layers, str(memory / "root")],
        ["-t", "proc", "proc", f"{memory}/root/proc"],
        ["-t", "tmpfs", "own", f"{memory}/root/mnt"],
    ]
    script = """
import sys
from pathlib import Path
from crikpy.capsule.changes import plan_changes
from crikpy.model.capsule import Capsule
print([tree.root for tree in plan_changes(Capsule(launcher_pid=int(sys.argv[1]), socket=Path("/x")), [])])
"""
    with living_in(plan, memory / "root") as pid:
        enter = ["nsenter", "-t", str(pid), "-m", "-r", "-w", sys.executable, "-c", script, str(pid)]
        said = subprocess.run(
            enter, capture_output=True, text=True, env={"PYTHONPATH": str(Path(crikpy.__file__).parents[1])}
        )
    assert (said.stdout, said.stderr) == ("[]\n", "")


def test_files_open_for_writing_travel_alone_where_nothing_else_carries_them(machine: tuple[int, Path]) -> None:
    pid, disk = machine
    root = Path(f"/proc/{pid}/root")
    names = ("log", "tmp/in-tree", "own/in-tree", "a dir/deep (deleted)")
    paths = [f"{disk}/{name}" for name in names]
    (disk / "a dir").mkdir()
    for path in paths:
        (root / path[1:]).touch()
    os.mkfifo(disk / "fifo")
    others = ["/dev/null", "/proc/self/mem", "/sys/x", "pipe:[1]", f"{disk}/gone (deleted)", f"{disk}/x/y"]
    plan = plan_changes(_capsule(pid, carried=(f"{disk}/tmp",)), [*paths, *others, f"{disk}/fifo", paths[0]])
    assert plan[-1].kind == "files"
    assert plan[-1].names == tuple(sorted((paths[0][1:], paths[3][1:])))
    assert plan[-1].source == root


def test_no_single_files_make_no_tree(machine: tuple[int, Path]) -> None:
    pid, _ = machine
    assert "files" not in {tree.kind for tree in plan_changes(_capsule(pid), ["/dev/null"])}


def test_a_launcher_that_is_gone_is_no_job() -> None:
    with pytest.raises(NoSuchJobError):
        plan_changes(_capsule(2**22 + 1), [])


LISTING = b"""
1 0 0:50 / / rw - overlay overlay rw
2 1 0:51 / /proc rw - proc proc rw
3 1 0:52 / /data rw - ext4 /dev/sda rw
4 3 0:53 / /data/nfs rw - nfs4 server:/ rw
5 1 0:54 / /ro ro - ext4 /dev/sdb rw
6 1 0:55 / /dev/shm rw - tmpfs shm rw
"""


def test_whole_trees_spare_every_mount_and_single_files_only_what_is_no_disk() -> None:
    listed = mounts.parse_mounts(LISTING)

    def spared(kind: str, root: str) -> set[str]:
        return set(mounts_to_spare(FileArchive(image="x", kind=kind, root=root, entries=0), listed))

    assert spared("overlay", "/") == {"/proc", "/data", "/data/nfs", "/ro", "/dev/shm"}
    assert spared("tree", "/data") == {"/data/nfs"}
    assert spared("files", "/") == {"/proc", "/data/nfs", "/ro"}
