"""Real processes, looked at through /proc."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from crikpy.capsule.buildids import read_build_id
from crikpy.capsule.preflight import refusals
from crikpy.capsule.surveying import survey
from crikpy.errors import NoSuchJobError

_WAIT = "\nprint('ready', flush=True)\nsys.stdin.read()\n"


@contextmanager
def _running(script: str, *before: str, session: bool = True) -> Iterator[int]:
    """Lend the PID of a Python process that has run a script and waits."""
    program = [*before, sys.executable, "-c", "import ctypes, mmap, os, sys\n" + script + _WAIT]
    with subprocess.Popen(
        program,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=session,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            if said == b"skip\n":
                pytest.skip("this kernel does not let a process do that")
            assert said == b"ready\n"
            yield process.pid
        finally:
            process.stdin.close()


def _reasons(script: str, session: bool = True) -> str:
    with _running(script, session=session) as pid:
        children = [child.pid for child in psutil.Process(pid).children(recursive=True)]
        return "; ".join(refusals(survey([pid, *children]).views))


def test_a_plain_process_is_not_refused() -> None:
    assert not _reasons("import threading, select; e = select.epoll()")


def test_a_terminal_whose_other_end_is_somebody_elses_is_refused() -> None:
    master, slave = os.openpty()
    reasons = _reasons(f"kept = os.open({os.ttyname(slave)!r}, os.O_RDWR)")
    os.close(master)
    os.close(slave)
    assert "has a controlling terminal" in reasons
    assert "has the terminal /dev/pts/" in reasons


def test_a_jobs_own_terminal_under_its_other_name_is_refused() -> None:
    script = """
import pty, time
child, master = pty.fork()
if child == 0:
    kept = os.open("/dev/tty", os.O_RDWR)
    time.sleep(100)
time.sleep(0.5)
"""
    assert "has the terminal /dev/tty open" in _reasons(script)


def test_a_terminal_that_was_hung_up_is_refused() -> None:
    assert "has the terminal /dev/pts/" in _reasons("master, slave = os.openpty(); os.close(master)")


def test_a_terminal_of_the_jobs_own_is_not_refused() -> None:
    script = """
import pty, time
child, master = pty.fork()
if child == 0:
    time.sleep(100)
time.sleep(0.5)
"""
    assert _reasons(script) == ""


def test_io_uring_is_refused() -> None:
    script = """
if ctypes.CDLL(None).syscall(425, 4, ctypes.create_string_buffer(256)) < 0:
    print("skip", flush=True)
    sys.exit()
"""
    assert "io_uring" in _reasons(script)


def test_a_pipe_in_packet_mode_is_refused_and_another_one_is_not() -> None:
    assert "pipe in packet mode" in _reasons("ends = os.pipe2(os.O_DIRECT)")
    assert not _reasons("ends = os.pipe()")


def test_a_process_with_as_many_mappings_as_the_kernel_permits_is_refused() -> None:
    most = int(Path("/proc/sys/vm/max_map_count").read_text())
    script = """
kinds = (mmap.MAP_SHARED | mmap.MAP_ANONYMOUS, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
areas = []
try:
    for number in range(%d):
        areas.append(mmap.mmap(-1, mmap.PAGESIZE, flags=kinds[number %% 2]))
except OSError:
    del areas[-%d:]
"""
    if most > 200_000:
        pytest.skip("this kernel permits more than one wants to map")
    assert "vm.max_map_count" in _reasons(script % (most, 8))
    assert not _reasons(script % (most, 100))


def test_system_v_shared_memory_is_seen_and_left_to_those_who_look_at_its_namespace() -> None:
    script = """
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
segment = libc.shmget(0, 4096, 0o1600)
libc.shmat(segment, None, 0)
libc.shmctl(segment, 0, None)
"""
    with _running(script) as pid:
        assert survey([pid]).attaches_system_v
        assert refusals(survey([pid]).views, ghost_limit_bytes=0) == ()


def test_what_children_have_mapped_as_their_parent_is_known_of_each_also_when_it_has_lost_its_name(
    tmp_path: Path,
) -> None:
    script = f"""
kept, gone = (open({str(tmp_path)!r} + "/" + name, "w+b") for name in ("kept", "gone"))
maps = []
for file in (kept, gone):
    file.write(bytes(4096))
    file.flush()
    maps.append(mmap.mmap(file.fileno(), 4096))
os.unlink(gone.name)
if not os.fork():
    sys.stdin.read()
    os._exit(0)
"""
    with _running(script) as pid:
        (child,) = psutil.Process(pid).children()
        views = survey([pid, child.pid]).views
    named, nameless = str(tmp_path / "kept"), f"{tmp_path}/gone (deleted)"
    for view in views:
        found = {one.target: (one.path, one.ghost, one.shared) for one in view.mappings}
        assert found[named] == (named, 0, True)
        assert found[nameless] == ("", 4096, True)
    assert {one.build_id for one in views[0].mappings} == {one.build_id for one in views[1].mappings} != {""}


def test_what_is_watched_is_known_by_its_filesystem_and_number(tmp_path: Path) -> None:
    script = (
        f"libc = ctypes.CDLL(None); libc.inotify_add_watch(libc.inotify_init1(0), {os.fsencode(tmp_path)!r}, 2)"
    )
    with _running(script) as pid:
        found = survey([pid]).watched
    (watched,) = found
    status = tmp_path.stat()
    assert watched.inode == status.st_ino
    assert watched.device == f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"


def test_a_deleted_file_is_measured_and_memory_that_looks_like_one_is_none(tmp_path: Path) -> None:
    script = f"""
import mmap, os
kept = open({str(tmp_path / "x")!r}, "w+b")
kept.write(bytes(65536))
kept.flush()
kept.truncate(1 << 30)
os.unlink(kept.name)
memory = os.memfd_create("memory")
os.truncate(memory, 1 << 20)
os.pwrite(memory, bytes(65536), 0)
maps = [mmap.mmap(memory, 1 << 20), mmap.mmap(-1, 1 << 20), mmap.mmap(kept.fileno(), 1 << 20)]
"""
    with _running(script) as pid:
        (view,) = survey([pid]).views
    assert {found.target: found.ghost for found in view.descriptors if found.ghost} == {
        f"{tmp_path}/x (deleted)": 65536
    }
    assert {found.target: found.ghost for found in view.mappings if found.ghost} == {
        f"{tmp_path}/x (deleted)": 65536
    }


def test_a_namespace_of_its_own_is_refused() -> None:
    script = """
if not os.fork():
    ctypes.CDLL(None).unshare(0x20000 | 0x40000000)
    sys.stdin.read()
    os._exit(0)
import time; time.sleep(0.3)
"""
    assert "is in mount and network namespaces of its own" in _reasons(script)


def test_a_session_whose_leader_is_elsewhere_is_refused() -> None:
    assert "session whose leader has ended" in _reasons("", session=False)


def test_a_traced_process_is_refused() -> None:
    # The parent traces its child, which stops itself so that the trace lasts.
    script = """
child = os.fork()
if not child:
    ctypes.CDLL(None).ptrace(0, 0, 0, 0)
    os.kill(os.getpid(), 19)
os.waitpid(child, os.WUNTRACED)
"""
    with _running(script) as pid:
        child = psutil.Process(pid).children()[0]
        (reason,) = refusals(survey([pid, child.pid]).views)
        child.kill()
    assert f"(PID {child.pid}) is traced by a debugger" in reason


def test_files_are_found_with_their_sizes_and_who_may_write_them(tmp_path: Path) -> None:
    script = f"""
os.chdir({str(tmp_path)!r})
for name in ("read", "written", "appended", "mapped", "private", "gone", "named (deleted)", "path"):
    open(name, "w").write("12345")
opened = [open("read"), open("written", "r+"), open("appended", "a")]
opened += [open("gone", "r+"), open("named (deleted)", "r+")]
os.remove("gone")
path = os.open("path", os.O_PATH)
libc = ctypes.CDLL(None)  # the mmap module would keep the descriptors
for name, flags, rights in (("mapped", os.O_RDWR, mmap.PROT_WRITE), ("private", os.O_RDONLY, mmap.PROT_READ)):
    fd = os.open(name, flags)
    libc.mmap(None, 5, rights, mmap.MAP_SHARED if rights == mmap.PROT_WRITE else mmap.MAP_PRIVATE, fd, 0)
    os.close(fd)
"""
    with _running(script) as pid:
        found = survey([pid])
    ours = {
        file.path.removeprefix(f"{tmp_path}/"): file.size for file in found.files if str(tmp_path) in file.path
    }
    names = ("read", "written", "appended", "mapped", "private", "named (deleted)", "path")
    assert ours == dict.fromkeys(names, 5)
    written = [path for path in found.written if str(tmp_path) in path]
    assert written == [f"{tmp_path}/{name}" for name in ("appended", "mapped", "named (deleted)", "written")]


def test_a_file_at_the_low_addresses_of_a_static_program_is_found(tmp_path: Path) -> None:
    script = f"""
fd = os.open({str(tmp_path / "low")!r}, os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 4096)
noreplace, rights = 0x100000, mmap.PROT_READ | mmap.PROT_WRITE
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
assert libc.mmap(ctypes.c_void_p(0x200000), 4096, rights, mmap.MAP_SHARED | noreplace, fd, 0) == 0x200000
os.close(fd)
"""
    with _running(script) as pid:
        found = survey([pid])
    assert str(tmp_path / "low") in {file.path for file in found.files}
    assert str(tmp_path / "low") in found.written


def test_libraries_come_with_their_build_id() -> None:
    with _running("") as pid:
        files = {file.path: file for file in survey([pid]).files}
    program = files[str(Path(sys.executable).resolve())]
    assert program.size == Path(program.path).stat().st_size
    libc = next(file for path, file in files.items() if "/libc.so" in path or "/libc-" in path)
    shown = (
        subprocess.run(["file", "-b", libc.path], capture_output=True, text=True) if shutil.which("file") else None
    )
    assert len(bytes.fromhex(libc.build_id)) == 20
    if shown is not None:
        assert libc.build_id in shown.stdout


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 200, b"#!/bin/sh\n" * 20])
def test_what_is_no_program_has_no_build_id(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(content)
    with (tmp_path / "f").open("rb") as file:
        assert read_build_id(file.fileno()) == ""


def test_pids_parents_and_threads_are_those_of_the_namespace() -> None:
    script = """
import threading, time
for _ in range(3):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
held = bytearray(os.urandom(30_000_000))
if not os.fork():
    sys.stdin.read()
    os._exit(0)
time.sleep(0.2)
"""
    with _running(script, "unshare", "--pid", "--fork", "--kill-child") as outer:
        root = psutil.Process(outer).children()[0].pid
        child = psutil.Process(root).children()[0].pid
        found = survey([root, child])
    facts = {fact.pid: fact for fact in found.processes}
    assert set(facts) == {1, 5}
    assert facts[1].threads == 4
    assert facts[5].parent == 1
    assert found.highest_pid == 5
    assert facts[1].anonymous_bytes >= 30_000_000
    assert facts[1].resident_bytes >= facts[1].anonymous_bytes + facts[1].file_bytes


def test_standard_descriptors_and_stopped_processes_are_told() -> None:
    with _running("") as pid:
        os.kill(pid, signal.SIGSTOP)
        deadline = time.monotonic() + 10
        while psutil.Process(pid).status() != psutil.STATUS_STOPPED and time.monotonic() < deadline:
            time.sleep(0.01)
        found = survey([pid])
        os.kill(pid, signal.SIGCONT)
        assert found.stopped == (pid,)
        assert [end.fd for end in found.stdio] == [0, 1, 2]
        assert found.stdio[0].target.startswith("pipe:[")
        assert found.stdio[2].target == "/dev/null"


def test_a_child_that_ended_is_left_out_and_a_root_that_ended_is_no_job() -> None:
    with _running("") as pid:
        assert [fact.pid for fact in survey([pid, 2**22 + 1]).processes] == [pid]
    with pytest.raises(NoSuchJobError):
        survey([2**22 + 1])


def test_zombies_are_looked_at() -> None:
    with _running("child = os.fork() or os._exit(0)\nimport time; time.sleep(0.2)") as pid:
        zombie = psutil.Process(pid).children()[0].pid
        found = survey([pid, zombie])
    assert found.views[1].state == "Z"
    assert refusals(found.views) == ()
