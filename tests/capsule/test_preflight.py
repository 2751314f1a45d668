"""What CRIU cannot save is known before, and told with a remedy."""

from __future__ import annotations

import dataclasses

import pytest

from crikpy.capsule.preflight import (
    Descriptor,
    Inode,
    Mapping,
    ProcessView,
    refusals,
    summarise,
)
from crikpy.model.manifest import OpenFile, ProcessFact, StdioEnd

_SPACES = tuple(
    (kind, f"{kind.removesuffix('_for_children')}:[1]")
    for kind in ("mnt", "net", "pid", "pid_for_children", "ipc", "user", "time", "time_for_children")
)


def _spaces_but(kind: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, "other:[2]" if name == kind else identity) for name, identity in _SPACES)


def _view(pid: int = 9001, **fields: object) -> ProcessView:
    fact = ProcessFact(pid=pid, parent=1, command="train", threads=1, resident_bytes=4096)
    plain = ProcessView(fact=fact, session=9001, namespaces=_SPACES, highest=pid)
    return dataclasses.replace(plain, **fields)  # type: ignore[arg-type]  # the test's


def _device(target: str, major: int, minor: int, inode: Inode = Inode.CHARACTER) -> ProcessView:
    return _view(descriptors=(Descriptor(fd=7, target=target, inode=inode, device=(major, minor)),))


def test_an_ordinary_job_is_not_refused() -> None:
    descriptors = (
        Descriptor(fd=0, target="/dev/null", inode=Inode.CHARACTER, device=(1, 3)),
        Descriptor(fd=1, target="pipe:[1]", inode=Inode.OTHER),
        Descriptor(fd=3, target="anon_inode:[eventpoll]", inode=Inode.OTHER),
        Descriptor(fd=4, target="anon_inode:[eventfd]", inode=Inode.OTHER),
        Descriptor(fd=5, target="/dev/urandom", inode=Inode.CHARACTER, device=(1, 9)),
        Descriptor(fd=6, target="/dev/shm/x", inode=Inode.REGULAR, path="/dev/shm/x"),
    )
    mappings = (
        Mapping(target="/dev/zero (deleted)"),
        Mapping(target="/usr/lib/libc.so.6", path="/usr/lib/libc.so.6"),
    )
    assert refusals([_view(descriptors=descriptors, mappings=mappings), _view(9002), _view(9003, state="T")]) == ()


def test_a_deleted_file_may_be_open_or_mapped_up_to_a_limit() -> None:
    opened = Descriptor(fd=3, target="/data/x (deleted)", inode=Inode.REGULAR, ghost=3 * 2**20)
    job = [_view(descriptors=(opened,)), _view(9002, mappings=(Mapping(target="/data/y (deleted)", ghost=2**21),))]
    assert refusals(job, ghost_limit_bytes=3 * 2**20) == ()
    (reason,) = refusals(job, ghost_limit_bytes=2**21)
    assert "/data/x (deleted) open, of 3 MiB" in reason
    assert "CRIKPY_CRIU_GHOST_LIMIT_BYTES" in reason
    assert len(refusals(job, ghost_limit_bytes=2**20)) == 2


def _member(pid: int, parent: int, session: int) -> ProcessView:
    return _view(pid, session=session, fact=dataclasses.replace(_view(pid).fact, parent=parent))


def test_a_session_whose_leader_has_ended_is_not_refused_among_the_roots_children_and_theirs() -> None:
    job = [_view(), _member(9005, 9001, 9004), _member(9006, 9005, 9004), _member(9007, 9001, 9004)]
    assert refusals(job) == ()
    assert refusals([_view(), _member(9008, 9999, 9004)]) == (), "its parent has just ended"
    assert summarise(job).lost_sessions
    assert not summarise([_view(), _member(9002, 9001, 9001)]).lost_sessions


def test_a_session_whose_leader_has_ended_is_refused_below_others() -> None:
    (reason,) = refusals([_view(), _member(9002, 9001, 9001), _member(9006, 9002, 9004)])
    assert "(PID 9006) belongs to a session whose leader has ended" in reason


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (_view(terminal=True), "controlling terminal"),
        (_view(tracer=77), "debugger"),
        (_view(session=8000), "session whose leader has ended"),
        (_view(session=0), "session whose leader has ended"),
        (_device("/dev/pts/0", 136, 0), "terminal /dev/pts/0"),
        (_device("/dev/tty", 5, 0), "terminal /dev/tty"),
        (_device("/dev/ttyS0", 4, 64), "terminal /dev/ttyS0"),
        (_device("/dev/kfd", 511, 0), "GPU"),
        (_device("/dev/dri/renderD128", 226, 128), "GPU"),
        (_device("/dev/fuse", 10, 229), "FUSE"),
        (_device("/dev/kvm", 10, 232), "virtual machines (/dev/kvm)"),
        (_device("/dev/infiniband/uverbs0", 231, 192), "uses RDMA"),
        (_device("/dev/net/tun", 10, 200), "TUN or TAP"),
        (
            _view(descriptors=(Descriptor(fd=3, target="socket:[1]", inode=Inode.OTHER, protocol="MPTCP"),)),
            "Multipath",
        ),
        (_device("/dev/nbd", 1, 3, Inode.BLOCK), "device /dev/nbd"),
        (_device("/my/null", 1, 1), "device /my/null"),
        (_view(descriptors=(Descriptor(fd=3, target="anon_inode:[io_uring]", inode=Inode.OTHER),)), "io_uring"),
        (_view(descriptors=(Descriptor(fd=3, target="anon_inode:bpf-prog", inode=Inode.OTHER),)), "BPF program"),
        (_view(descriptors=(Descriptor(fd=3, target="anon_inode:kvm-vm", inode=Inode.OTHER),)), "virtual machine"),
        (_view(mappings=(Mapping(target="anon_inode:[io_uring]"),)), "io_uring"),
        (_view(areas_left=15), "vm.max_map_count"),
        (
            _view(descriptors=(Descriptor(fd=3, target="/jobs", inode=Inode.QUEUE, path="/jobs"),)),
            "POSIX message queue /jobs",
        ),
    ],
)
def test_each_thing_that_cannot_be_saved_is_told_once_with_its_process(view: ProcessView, words: str) -> None:
    (reason,) = refusals([view])
    assert words in reason
    assert reason.startswith("train (PID 9001) ")
    assert ": " in reason, "a remedy follows"


def test_a_process_with_room_for_what_criu_maps_into_it_is_not_refused() -> None:
    assert refusals([_view(areas_left=16)]) == ()


def test_a_zombie_with_threads_is_refused_and_one_without_is_not() -> None:
    zombie = _view(9002, state="Z")
    assert refusals([_view(), zombie]) == ()
    threads = dataclasses.replace(zombie, fact=dataclasses.replace(zombie.fact, threads=2))
    assert "main thread" in refusals([_view(), threads])[0]


@pytest.mark.parametrize(
    ("kind", "word"), [("mnt", "mount"), ("net", "network"), ("pid_for_children", "PID"), ("time", "time")]
)
def test_a_process_in_namespaces_of_its_own_is_refused(kind: str, word: str) -> None:
    other = _view(9002, namespaces=_spaces_but(kind))
    (reason,) = refusals([_view(), other])
    assert reason.startswith(f"train (PID 9002) is in a {word} namespace of its own")


def test_namespaces_of_its_own_are_told_in_one_sentence() -> None:
    own = tuple((name, "other:[2]" if name in {"mnt", "user", "pid"} else identity) for name, identity in _SPACES)
    (reason,) = refusals([_view(), _view(9002, namespaces=own)])
    assert "is in PID, mount and user namespaces of its own" in reason
    assert "without that sandbox" in reason


def test_a_namespace_for_children_that_differs_from_the_roots_own_is_refused() -> None:
    (reason,) = refusals([_view(namespaces=_spaces_but("time_for_children"))])
    assert "time namespace" in reason


def test_the_same_reason_comes_once_however_many_processes_have_it() -> None:
    two = tuple(Descriptor(fd=fd, target="anon_inode:[io_uring]", inode=Inode.OTHER) for fd in (3, 4))
    (reason,) = refusals([_view(pid, descriptors=two) for pid in range(9001, 9101)])
    assert reason.startswith("train (PID 9001 and 99 more) uses io_uring: ")


def test_programs_with_the_same_reason_are_told_one_by_one() -> None:
    one, other = _view(terminal=True), _view(9002, terminal=True)
    other = dataclasses.replace(other, fact=dataclasses.replace(other.fact, command="shell"))
    assert [reason.partition(" has ")[0] for reason in refusals([one, other])] == [
        "train (PID 9001)",
        "shell (PID 9002)",
    ]


def test_no_process_is_no_reason() -> None:
    assert refusals([]) == ()


def test_a_summary_draws_the_views_together() -> None:
    regular = Inode.REGULAR
    root = _view(
        descriptors=(
            Descriptor(fd=2, target="pipe:[2]", inode=Inode.OTHER),
            Descriptor(fd=0, target="/dev/null", inode=Inode.CHARACTER, device=(1, 3)),
            Descriptor(fd=5, target="/log", inode=regular, path="/log", size=3, writable=True),
            Descriptor(fd=6, target="/lib", inode=regular, path="/lib", size=9),
            Descriptor(fd=7, target="/gone (deleted)", inode=regular, size=9, writable=True),
        ),
        mappings=(
            Mapping(target="/lib", path="/lib", size=9),
            Mapping(target="/lib", path="/lib", size=9, build_id="ab"),
            Mapping(target="/lib", path="/lib", size=9),
            Mapping(target="/data", path="/data", size=1, shared=True),
        ),
    )
    child = _view(9002, state="T", highest=9007, descriptors=(Descriptor(fd=0, target="x", inode=Inode.OTHER),))
    found = summarise([root, child])
    assert found.written == ("/data", "/log")
    assert found.files == (
        OpenFile(path="/data", size=1),
        OpenFile(path="/lib", size=9, build_id="ab"),
        OpenFile(path="/log", size=3),
    )
    assert found.stdio == (StdioEnd(fd=0, target="/dev/null"), StdioEnd(fd=2, target="pipe:[2]"))
    assert (found.highest_pid, found.stopped) == (9007, (9002,))
    assert [fact.pid for fact in found.processes] == [9001, 9002]
