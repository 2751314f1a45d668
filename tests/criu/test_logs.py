"""What CRIU's log means, by lines as CRIU 4.2 and kernel 6.18 write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.criu import logs

OTHERWISE = "the dump failed"
START = """\
(00.000033) Version: 4.2.1 (gitid 0)
(00.000036) Running on node-7 Linux 6.18.44 #1 SMP PREEMPT_DYNAMIC x86_64
(00.000051) Loaded kdat cache from criu.kdat
(00.000120) Warn  (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
(00.005172) Collected (2 attempts, 0 in_progress)
(00.017406) Dumping opened files (pid: 4711)
"""
END = """\
(00.060931) Unfreezing tasks into 1
(00.060938) 	Unseizing 4711 into 1
(00.061092) Error (criu/cr-dump.c:2128): Dumping FAILED.
"""

CASES = {
    "the job uses io_uring, which CRIU cannot save": [
        "(00.021) Error (criu/files-ext.c:98): Can't dump file 5 of that type [600] (anon anon_inode:[io_uring])",
    ],
    "the job has a terminal, which cannot be moved": [
        "(00.052031) Error (criu/tty.c:1830): tty: Found dangling tty with sid 7 pgid 9 (pts) on peer fd 0.",
        "(00.052031) Error (criu/tty.c:1010): tty: Don't have tty to inherit session from, aborting",
    ],
    "a session's leader has exited": [
        "(00.011093) Error (criu/cr-dump.c:1681): A session leader of 4720(9020) is outside of its pid namespace",
        "(00.004561) Error (criu/pstree.c:801): Can't find a session leader for 9003",
    ],
    "the job uses System V shared memory": [
        "(00.014001) Error (criu/cr-dump.c:477): Task 4711 with SysVIPC shmem map @7f8c2a doesn't live in IPC ns",
    ],
    "the job is being traced": [
        "(00.002) Warn  (compel/src/lib/infect.c:131): Unable to interrupt task: 4711 (Operation not permitted)",
        "(00.002311) Warn  (compel/src/lib/infect.c:146): SEIZE 4711: can't interrupt task: No such process",
    ],
    "the job keeps a deleted file open that is too large": [
        "(00.031) Error (criu/files-reg.c:1031): Can't dump ghost file /data/x of 734003200 size, increase limit",
    ],
    "the job waits for a service outside of it to accept its connection by a Unix socket": [
        "(00.023257) Error (criu/sk-unix.c:479): unix: Dangling connection 28629725",
    ],
    "the job has news from the kernel to read (netlink)": [
        "(00.005188) Error (criu/sk-netlink.c:77): netlink: The socket has data to read",
    ],
    "the job is about to send a datagram (UDP_CORK)": [
        "(00.024676) Error (criu/sk-inet.c:504): inet: Can't dump corked dgram socket 1a7e25c",
    ],
    "the job has a socket of an unusual kind": [
        "(00.024676) Error (criu/sockets.c:767): sockets: BUG! Unknown socket collected (family 44)",
    ],
    "the job has a file open from outside of its capsule": [
        "(00.0175) Error (criu/files-reg.c:1790): Can't lookup mount=31 for fd=1 path=/var/log/out",
    ],
    "the job made namespaces of its own": [
        "(00.007) Error (criu/namespaces.c:460): Can't dump nested uts namespace for 4712",
        "(00.007) Error (criu/mount.c:1164): mnt: 71:./opt doesn't have a proper root mount",
    ],
    "a file that the job has open has another size here": [
        "(00.040)   9001: Error (criu/files-reg.c:2175): File usr/lib/libx.so has bad size 1202 (expect 1200)",
    ],
    "a file that the job has open is missing": [
        "(00.040)   9001: Error (criu/files-reg.c:2267): Can't open file data/x: No such file or directory",
        "(00.040)   9001: Error (criu/files-reg.c:2353): Can't open file a on restore: No such file or directory",
    ],
    "a PID that the job needs is taken": [
        "(00.038)   9001: Error (criu/cr-restore.c:1230): Can't fork for 9004: File exists",
        "(00.038)   9004: Error (criu/cr-restore.c:1539): Pid 23 do not match expected 9004",
    ],
    "there is not enough memory": [
        "(00.1) pie: 9001: Error (criu/pie/restorer.c:1799): Can't restore 0x7f mapping: Cannot allocate memory",
        "(00.044)   9001: Error (criu/seccomp.c:473): Can't allocate 8192 bytes for filters on tid 9001",
    ],
    "CRIU lacks CAP_SYS_RESOURCE on this node": [
        "(00.013) Error (criu/cr-dump.c:388): Can't get rlimit 0: Operation not permitted",
    ],
    "a process of the job has confined itself by Landlock, which keeps CRIU out: turn its sandbox off": [
        "(0.1) Error (compel/src/lib/infect.c:712): Unable to connect a transport socket: Operation not permitted",
    ],
    "a client of a Unix socket of the job has not been accepted yet; another moment may be better": [
        "(00.015) Error (criu/sk-unix.c:506): unix: Non-empty write queue on an in-flight socket 0x1663",
        "(00.015) Error (criu/sk-unix.c:525): unix: Found a closed in-flight socket to 0x1663",
    ],
    "the job has a pipe in packet mode, which CRIU cannot save": [
        "(00.132) Error (criu/pipes.c:490): The packetized mode for pipes is not supported yet",
    ],
    "a Unix socket of the job had lost its other end, or was not accepted yet, when the job was saved": [
        "(00.012)   9001: Error (criu/sk-unix.c:2285): unix: FATAL: Peer 23723336 unresolved for 23785136",
    ],
    "a port of the job is taken": [
        "(00.05)   9001: Error (criu/sk-inet.c:1059): inet: Can't bind inet socket (id 5): Address already in use",
    ],
}
EVERY_LINE = [(line, meaning) for meaning, lines in CASES.items() for line in lines]


def _explain(folder: Path, text: str) -> tuple[str, str]:
    (folder / "criu.log").write_text(text)
    return logs.explain(folder / "criu.log", otherwise=OTHERWISE)


@pytest.mark.parametrize(("line", "meaning"), EVERY_LINE)
def test_a_known_line_is_said_in_the_users_words(tmp_path: Path, line: str, meaning: str) -> None:
    found, detail = _explain(tmp_path, f"{START}{line}\n{END}")
    assert found == meaning
    assert line in detail.splitlines()


def test_the_detail_is_what_criu_complained_of_and_nothing_else(tmp_path: Path) -> None:
    line = CASES["a PID that the job needs is taken"][0]
    _, detail = _explain(tmp_path, f"{START}{line}\n{END}")
    assert detail.splitlines() == [line, "(00.061092) Error (criu/cr-dump.c:2128): Dumping FAILED."]


def test_an_unknown_failure_is_shown_in_criu_s_words(tmp_path: Path) -> None:
    line = "(00.020) Error (criu/sockets.c:610): sockets: Can't get 1:16 opt: Operation not supported"
    assert _explain(tmp_path, f"{START}{line}\n") == (OTHERWISE, line)


def test_a_log_without_complaints_shows_its_end(tmp_path: Path) -> None:
    lines = [f"(00.{number:06}) Dumping something" for number in range(40)]
    assert _explain(tmp_path, "\n".join(lines)) == (OTHERWISE, "\n".join(lines[-12:]))


def test_of_many_complaints_the_last_are_shown_and_the_first_explains(tmp_path: Path) -> None:
    cause = CASES["a port of the job is taken"][0]
    after = [f"(00.{number:06}) Error (criu/cr-restore.c:1): Restoring FAILED ({number})." for number in range(20)]
    found, detail = _explain(tmp_path, "\n".join([cause, *after]))
    assert found == "a port of the job is taken"
    assert detail.splitlines() == after[-12:]


def test_an_error_explains_more_than_a_warning_before_it(tmp_path: Path) -> None:
    warning = "(00.001) Warn  (criu/kerndat.c:1): Can't allocate a thing that nobody needs"
    error = CASES["the job uses io_uring, which CRIU cannot save"][0]
    assert _explain(tmp_path, f"{warning}\n{error}\n")[0] == "the job uses io_uring, which CRIU cannot save"


@pytest.mark.parametrize(
    "line",
    [
        "(00.0)   9001: Error (criu/files-reg.c:2267): Can't open file home/pretty.txt: Permission denied",
        "(00.0)   9001: Error (criu/files-reg.c:2267): Can't open file src/io_uring.py: Permission denied",
        "(00.0)   9001: Error (criu/sk-unix.c:1600): unix: Can't bind socket /tmp/s: Address already in use",
        "(00.0) Warn  (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted",
        "(00.0) Dumping path for 3 fd via self 5 [/data/Error (criu/tty.c:1): tty]",
    ],
)
def test_names_of_files_and_harmless_lines_explain_nothing(tmp_path: Path, line: str) -> None:
    assert _explain(tmp_path, f"{line}\n")[0] == OTHERWISE


def test_a_log_that_was_never_written_explains_nothing(tmp_path: Path) -> None:
    assert logs.explain(tmp_path / "criu.log", otherwise=OTHERWISE) == (OTHERWISE, "")
    assert _explain(tmp_path, "") == (OTHERWISE, "")


def test_a_log_with_bytes_that_are_no_text_is_read_all_the_same(tmp_path: Path) -> None:
    line = b"(00.0)   9001: Error (criu/files-reg.c:2267): Can't open file caf\xe9: No such file or directory\n"
    (tmp_path / "criu.log").write_bytes(line)
    assert logs.explain(tmp_path / "criu.log", otherwise="")[0] == "a file that the job has open is missing"


@given(text=st.text())
def test_any_log_gives_a_sentence_and_at_most_twelve_lines(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    log = tmp_path_factory.getbasetemp() / "any.log"
    log.write_text(text, errors="surrogateescape")
    meaning, detail = logs.explain(log, otherwise=OTHERWISE)
    assert meaning
    assert detail.count("\n") < 12
