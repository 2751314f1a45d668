"""Reading mountinfo and finding the mount of a path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crikpy.capsule import mounts
from crikpy.errors import FilesystemError, NoSuchJobError

CONTAINER = rb"""
600 500 0:50 / / rw,relatime - overlay overlay rw,upperdir=/var/up\040per\054\134x,workdir=/w
601 600 0:51 / /proc rw,nosuid - proc proc rw
602 600 0:52 / /dev rw,nosuid shared:3 master:1 - tmpfs tmpfs rw,size=65536k
603 602 0:53 / /dev/shm rw - tmpfs shm rw
604 602 0:54 / /dev/shm rw - tmpfs shm ro
605 600 8:1 /pods/a\012b /data rw - ext4 /dev/sda1 rw
606 600 8:1 / /data/inner rw - ext4 /dev/sda1 rw
607 605 0:60 / /data/inner/deep ro - fuse.sshfs me@there:/ rw
"""


@pytest.fixture
def container() -> tuple[mounts.Mount, ...]:
    return mounts.parse_mounts(CONTAINER)


def test_fields_are_decoded(container: tuple[mounts.Mount, ...]) -> None:
    root, *_, data, _, _ = container
    assert (root.id, root.parent, root.device, root.fstype) == (600, 500, "0:50", "overlay")
    assert data.root == "/pods/a\nb"
    assert data.source == "/dev/sda1"
    assert data.options == ("rw",)


def test_an_upper_directory_may_hold_blanks_commas_and_backslashes(container: tuple[mounts.Mount, ...]) -> None:
    assert container[0].upper_directory == Path("/var/up per,\\x")
    assert container[1].upper_directory is None


def test_a_mount_is_writable_only_when_its_filesystem_is_too(container: tuple[mounts.Mount, ...]) -> None:
    writable = {mount.id: mount.writable for mount in container}
    assert (writable[603], writable[604], writable[607]) == (True, False, False)


def test_fuse_filesystems_are_network_filesystems(container: tuple[mounts.Mount, ...]) -> None:
    assert [mount.id for mount in container if mount.network] == [607]


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/", 600),
        ("/etc/hosts", 600),
        ("/device", 600),
        ("/dev", 602),
        ("/dev/shmem", 602),
        ("/dev/shm/x", 604),
        ("/data", 605),
        ("/data/inner/deep/x", 607),
    ],
)
def test_a_path_lies_on_the_last_mount_of_its_walk(
    path: str, number: int, container: tuple[mounts.Mount, ...]
) -> None:
    # 603 is covered by 604 (here both lie on 602, as after a move); 606 lies on the root, below 605.
    stacked = [mount for mount in container if mount.id != 603]
    assert mounts.mount_of(path, stacked).id == number


def test_what_a_later_mount_hides_is_not_visible(container: tuple[mounts.Mount, ...]) -> None:
    assert 606 not in {mount.id for mount in mounts.visible(container)}


def test_a_mount_on_a_mount_hides_the_lower_one() -> None:
    listing = b"1 0 8:1 / / rw - ext4 a rw\n2 1 0:5 / /tmp rw - tmpfs t rw\n3 2 0:6 / /tmp rw - tmpfs t rw\n"
    stack = mounts.parse_mounts(listing)
    assert mounts.mount_of("/tmp/x", stack).id == 3
    assert [mount.id for mount in mounts.visible(stack)] == [1, 3]


def test_a_root_under_a_root_is_hidden() -> None:
    stack = mounts.parse_mounts(b"1 0 0:2 / / rw - rootfs r rw\n2 1 8:1 / / rw - ext4 a rw\n")
    assert mounts.mount_of("/etc", stack).id == 2


def test_a_list_without_a_root_is_refused() -> None:
    with pytest.raises(FilesystemError, match="root is not a mount"):
        mounts.mount_of("/x", mounts.parse_mounts(b"2 1 0:5 / /tmp rw - tmpfs t rw\n"))


@pytest.mark.parametrize("line", [b"garbage", b"1 0 8:1 / / rw ext4 a rw", b"x 0 8:1 / / rw - ext4 a rw"])
def test_a_damaged_list_is_refused(line: bytes) -> None:
    with pytest.raises(FilesystemError, match="mountinfo"):
        mounts.parse_mounts(line)


def test_the_mounts_of_this_process_agree_with_its_files(memory: Path) -> None:
    mount = mounts.mount_of(str(memory / "x"), mounts.read_mounts(os.getpid()))
    assert mount.point == str(memory)
    device = memory.stat().st_dev
    assert mount.device == f"{os.major(device)}:{os.minor(device)}"


def test_a_process_that_is_gone_is_no_job() -> None:
    with pytest.raises(NoSuchJobError):
        mounts.read_mounts(2**22 + 1)
