"""Each directory that containers of a pod share travels once, and none that they may write is forgotten."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from crikpy.agent.volumes import SharedMount, divide, shared_mounts
from crikpy.capsule.mounts import lies_in, parse_mounts

UID = "0f8b4a3c-7d61-4a51-9a5e-2f6f0c9d1e77"
DIR = f"/var/lib/kubelet/pods/{UID}/volumes/kubernetes.io~empty-dir"
CONTAINERS = ("a", "b", "c")


def _line(number: int, device: str, root: str, point: str, options: str = "rw", kind: str = "ext4") -> bytes:
    return f"{number} 1 {device} {root} {point} {options} - {kind} /dev/x rw\n".encode()


def test_empty_dirs_are_known_by_where_their_files_are() -> None:
    mounts = parse_mounts(
        b"".join(
            (
                _line(1, "0:50", "/", "/", kind="overlay"),
                _line(2, "259:1", f"{DIR}/scratch", "/run/scratch"),
                _line(3, "259:1", f"{DIR}/data/sub", "/data", "ro"),
                _line(4, "259:1", f"{DIR}/crikpy-launcher/main", "/.crikpy"),
                _line(5, "0:77", "/", "/cache", kind="tmpfs"),
                _line(6, "0:78", "/", "/dev/shm", kind="tmpfs"),
                _line(7, "259:1", f"{DIR.replace(UID, UID[::-1])}/scratch", "/theirs"),
                _line(9, "0:90", f"{DIR}/forged", "/forged", kind="fuse.mine"),
                _line(8, "259:1", f"/var/lib/kubelet/pods/{UID}/volumes/kubernetes.io~secret/s", "/secret"),
            )
        )
    )
    found = list(shared_mounts("main", mounts, UID, {"0:77": "fast"}))
    assert [(mount.volume, mount.point, mount.writable) for mount in found] == [
        ("scratch", "/run/scratch", True),
        ("data", "/data", False),
        ("fast", "/cache", True),
    ]


def _mount(container: str, point: str, root: str, *, writable: bool = True) -> SharedMount:
    volume = root.strip("/").split("/")[0]
    return SharedMount(
        container=container, volume=volume, point=point, device="259:1", root=root, writable=writable
    )


def test_the_container_that_sees_all_of_a_volume_carries_it() -> None:
    mounts = [_mount("a", "/part", "/data/part"), _mount("b", "/whole", "/data"), _mount("c", "/also", "/data")]
    divided = divide(CONTAINERS, mounts, ())
    assert divided["a"].carried == ()
    assert divided["a"].excluded == ("/part",)
    assert divided["b"].carried == ("/whole",)
    assert divided["c"].excluded == ("/also",)


def test_parts_of_a_volume_are_carried_by_those_that_see_them() -> None:
    divided = divide(CONTAINERS, [_mount("a", "/x", "/data/x"), _mount("b", "/y", "/data/y")], ())
    assert (divided["a"].carried, divided["b"].carried) == (("/x",), ("/y",))


def test_who_may_not_write_a_volume_does_not_carry_it() -> None:
    mounts = [_mount("a", "/in", "/data", writable=False), _mount("b", "/out", "/data")]
    divided = divide(CONTAINERS, mounts, ())
    assert divided["a"].excluded == ("/in",)
    assert divided["b"].carried == ("/out",)


MOUNTS = st.lists(
    st.builds(
        SharedMount,
        container=st.sampled_from(CONTAINERS),
        volume=st.sampled_from(("v", "w")),
        point=st.sampled_from(("/p", "/q", "/r")),
        device=st.just("259:1"),
        root=st.sampled_from(("", "/x", "/x/y", "/z")),
        writable=st.booleans(),
    ).map(
        lambda one: SharedMount(
            container=one.container,
            volume=one.volume,
            point=one.point,
            device=one.device,
            root=f"/{one.volume}{one.root}",
            writable=one.writable,
        )
    ),
    unique_by=lambda one: (one.container, one.point),
)


@settings(deadline=None)
@given(MOUNTS, st.sets(st.sampled_from(("v", "w"))))
def test_every_directory_travels_once(mounts: list[SharedMount], excluded: set[str]) -> None:
    divided = divide(CONTAINERS, mounts, excluded)
    assert divided.keys() == set(CONTAINERS)
    carried = [mount for mount in mounts if mount.point in divided[mount.container].carried]
    left = [mount for mount in mounts if mount.point in divided[mount.container].excluded]
    assert len(carried) + len(left) == len(mounts)
    assert all(mount.writable and mount.volume not in excluded for mount in carried)
    for mount in left:
        wanted = mount.writable and mount.volume not in excluded
        assert not wanted or any(lies_in(mount.root, other.root) for other in carried)
    for mount in carried:
        assert not any(other is not mount and lies_in(mount.root, other.root) for other in carried)
