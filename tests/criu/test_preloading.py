"""CRIU gets a library of ours only where it needs one, and learns by it what the kernel would not tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crikpy import names
from crikpy.criu import preloading

LAUNCHER_SOURCE = Path(__file__).parents[2] / "daemonset" / "launcher"
PATIENCE_S = 60

JOB = """
import json, os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 400))
resource.setrlimit(resource.RLIMIT_CPU, (500, resource.getrlimit(resource.RLIMIT_CPU)[1]))
resource.setrlimit(resource.RLIMIT_RTTIME, (2**62, 2**62 + 1))
os.setgid(1000)
os.setuid(1000)
print(json.dumps([resource.getrlimit(number) for number in range(16)]), flush=True)
sys.stdin.read()
"""
"""Becomes another user, says what its limits are, -1 for none, and stays."""

ASK = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(*words):
    ctypes.set_errno(0)
    return libc.syscall(*map(ctypes.c_long, words)), ctypes.get_errno()
room = (ctypes.c_int64 * 2)()
"""
PRLIMIT, MMAP, CLOSE = 302, 9, 3
EPERM, ESRCH, EBADF, EINVAL = 1, 3, 9, 22


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of limits, newly built, with the others beside it."""
    folder = tmp_path_factory.mktemp("library")
    command = [
        "make",
        "--no-print-directory",
        "-C",
        str(LAUNCHER_SOURCE),
        f"BUILD={folder}",
        "exits",
        "limits",
        "sessions",
    ]
    made = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert made.returncode == 0, made.stderr
    return folder / names.LIMITS_LIBRARY


@pytest.fixture
def stranger() -> Iterator[tuple[int, list[list[int]]]]:
    """A process of another user: its PID, and its soft and hard limits."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to start a process of another user")
    words = [sys.executable, "-ISc", JOB]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.pid, json.loads(process.stdout.readline())
        process.communicate(timeout=PATIENCE_S)


def ask(code: str, library: Path | None) -> Any:
    """Run code in a process without CAP_SYS_RESOURCE, with the library or without, and return what it prints."""
    asked = subprocess.run(
        ["setpriv", "--bounding-set=-sys_resource", sys.executable, "-ISc", ASK + code],
        env={"PATH": os.defpath} | ({"LD_PRELOAD": str(library)} if library else {}),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert asked.returncode == 0, asked.stderr
    return json.loads(asked.stdout)


def ask_all(pid: int) -> str:
    """Code that prints, for each limit of a process, what the call says and what it leaves in its room."""
    return (
        "print(json.dumps([[*call("
        f"{PRLIMIT}, {pid}, number, 0, ctypes.addressof(room)), list(room)] for number in range(16)]))"
    )


def test_every_limit_of_another_user_is_told(library: Path, stranger: tuple[int, list[list[int]]]) -> None:
    pid, limits = stranger
    assert len({tuple(limit) for limit in limits}) > 3
    assert {tuple(answer[:2]) for answer in ask(ask_all(pid), None)} == {(-1, EPERM)}
    assert ask(ask_all(pid), library) == [[0, 0, limit] for limit in limits]


def test_a_limit_of_another_user_still_cannot_be_set(library: Path, stranger: tuple[int, list[list[int]]]) -> None:
    pid, _ = stranger
    code = f"print(json.dumps(call({PRLIMIT}, {pid}, 7, ctypes.addressof(room), ctypes.addressof(room))))"
    assert ask(code, library) == [-1, EPERM]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give up a capability")
@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((PRLIMIT, 2**22 + 1, 7, 0, 0), ESRCH),
        ((PRLIMIT, 0, 99, 0, 0), EINVAL),
        ((CLOSE, -1), EBADF),
        ((MMAP, 0, 4096, 1, 0x22, -1, 1), EINVAL),
    ],
)
def test_other_calls_fail_as_they_do_without_it(library: Path, words: tuple[int, ...], error: int) -> None:
    code = f"print(json.dumps(call{words}))"
    assert ask(code, library) == ask(code, None) == [-1, error]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give up a capability")
def test_all_six_arguments_reach_the_kernel(library: Path) -> None:
    code = f"""
with open({str(library)!r}, "rb") as file:
    address, _ = call({MMAP}, 0, 4096, 1, 2, file.fileno(), 4096)
    file.seek(4096)
    print(json.dumps(ctypes.string_at(address, 4096) == file.read(4096)))
"""
    assert library.stat().st_size >= 8192
    assert ask(code, library) is True


@pytest.mark.parametrize(
    ("name", "function", "foreign"),
    [
        (names.EXITS_LIBRARY, "exit", []),
        (names.LIMITS_LIBRARY, "syscall", ["__errno_location"]),
        (names.SESSIONS_LIBRARY, "setsid", ["__errno_location"]),
    ],
)
def test_a_library_is_made_of_one_function_and_needs_no_other_library(
    library: Path, name: str, function: str, foreign: list[str]
) -> None:
    dynamic = subprocess.run(
        ["readelf", "--dynamic", "--dyn-syms", "--wide", library.parent / name],
        capture_output=True,
        text=True,
        timeout=10,
    ).stdout
    symbols = [line.split()[6:8] for line in dynamic.splitlines() if " GLOBAL " in line]
    assert "NEEDED" not in dynamic
    assert [name for section, name in symbols if section != "UND"] == [function]
    assert [name for section, name in symbols if section == "UND"] == foreign


def test_who_calls_exit_ends_with_its_status_and_without_what_was_registered_for_it(library: Path) -> None:
    code = (
        "import ctypes; c = ctypes.CDLL(None); end = ctypes.CFUNCTYPE(None)(lambda: print('end', flush=True));"
        "c.__cxa_atexit(end, None, None); c.exit(7)"
    )
    for preloaded, said in (("", "end\n"), (str(library.parent / names.EXITS_LIBRARY), "")):
        ended = subprocess.run(
            [sys.executable, "-ISc", code],
            env={"LD_PRELOAD": preloaded},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert (ended.returncode, ended.stdout) == (7, said)


# ---- when it is loaded -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effective", "hidden"), [("000001ffffffffff", False), ("000001fffeffffff", True), ("0000000000000000", True)]
)
def test_limits_are_hidden_where_the_capability_is_not_in_effect(effective: str, *, hidden: bool) -> None:
    status = f"Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t{effective}\nCapBnd:\t000001ffffffffff\n"
    assert preloading.hides_limits(status) is hidden


def test_a_status_without_capabilities_is_none() -> None:
    with pytest.raises(ValueError, match="CapEff"):
        preloading.hides_limits("Name:\tx\n")


def test_a_dump_and_a_restore_need_different_libraries() -> None:
    hidden = preloading.hides_limits(Path("/proc/self/status").read_text())
    assert preloading.for_dump() == (names.EXITS_LIBRARY, *((names.LIMITS_LIBRARY,) if hidden else ()))
    both = (names.TILES_LIBRARY, names.SESSIONS_LIBRARY)
    assert preloading.for_restore(may_use_tiles=True, lost_sessions=True) == both
    assert preloading.for_restore(may_use_tiles=True, lost_sessions=False) == both[:1]
    assert preloading.for_restore(may_use_tiles=False, lost_sessions=True) == both[1:]
    assert preloading.for_restore(may_use_tiles=False, lost_sessions=False) == ()


def test_a_library_that_is_not_beside_the_launcher_is_not_missed(tmp_path: Path) -> None:
    assert preloading.open_library(tmp_path / "launch", names.LIMITS_LIBRARY) is None
    (tmp_path / names.LIMITS_LIBRARY).touch()
    descriptor = preloading.open_library(tmp_path / "launch", names.LIMITS_LIBRARY)
    assert descriptor is not None
    os.close(descriptor)
