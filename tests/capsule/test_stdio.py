"""A restored job's streams: each old pipe becomes the new capsule's, and nothing else is touched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crikpy.capsule.stdio import open_replacements
from crikpy.errors import FilesystemError
from crikpy.model.manifest import StdioEnd

NULL, OUT, ERR, IN = (
    StdioEnd(fd=0, target="/dev/null"),
    StdioEnd(fd=1, target="pipe:[101]"),
    StdioEnd(fd=2, target="pipe:[102]"),
    StdioEnd(fd=0, target="pipe:[100]"),
)


@pytest.fixture(autouse=True)
def _leaves_nothing() -> Iterator[None]:
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@contextmanager
def _capsule(
    stdin: int = subprocess.DEVNULL, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[bytes]]:
    """Lend a process that stands for the new capsule's launcher."""
    with subprocess.Popen(["sleep", "1000"], stdin=stdin, stdout=stdout, stderr=stderr) as process:
        yield process
        process.kill()


@contextmanager
def _replacements(pid: int, *ends: StdioEnd) -> Iterator[dict[str, int]]:
    found = open_replacements(pid, ends)
    try:
        yield {identity: descriptor for descriptor, identity in found}
    finally:
        for descriptor, _ in found:
            os.close(descriptor)


def test_output_and_errors_reach_the_new_readers() -> None:
    with _capsule() as process, _replacements(process.pid, NULL, OUT, ERR) as found:
        assert set(found) == {"pipe:[101]", "pipe:[102]"}
        os.write(found["pipe:[101]"], b"out")
        os.write(found["pipe:[102]"], b"err")
        assert process.stdout is not None
        assert process.stderr is not None
        assert (os.read(process.stdout.fileno(), 10), os.read(process.stderr.fileno(), 10)) == (b"out", b"err")


def test_input_comes_from_the_new_writer() -> None:
    with _capsule(stdin=subprocess.PIPE) as process, _replacements(process.pid, IN) as found:
        assert process.stdin is not None
        os.write(process.stdin.fileno(), b"in")
        assert os.read(found["pipe:[100]"], 10) == b"in"


def test_a_pipe_that_was_two_streams_is_replaced_once_by_the_first() -> None:
    both = (OUT, StdioEnd(fd=2, target=OUT.target))
    with _capsule() as process, _replacements(process.pid, *both) as found:
        assert list(found) == [OUT.target]
        os.write(found[OUT.target], b"both")
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 10) == b"both"


def test_files_are_opened_by_the_restore_itself() -> None:
    with _capsule() as process, _replacements(process.pid, NULL, StdioEnd(fd=1, target="/var/log/out")) as found:
        assert found == {}


def test_a_replacement_waits_as_the_old_pipe_did_and_no_other_program_gets_it() -> None:
    with _capsule() as process, _replacements(process.pid, OUT) as found:
        assert os.get_blocking(found[OUT.target])
        assert not os.get_inheritable(found[OUT.target])


def test_a_capsule_whose_output_is_no_pipe_is_refused() -> None:
    with (
        _capsule(stderr=subprocess.DEVNULL) as process,
        pytest.raises(FilesystemError, match="the new capsule's standard error is not a pipe, the old one's was"),
    ):
        open_replacements(process.pid, (OUT, ERR))


def test_a_capsule_that_is_gone_is_refused() -> None:
    with _capsule() as process:
        process.kill()
        process.wait()
        with pytest.raises(FilesystemError, match="the new capsule's standard output cannot be opened"):
            open_replacements(process.pid, (OUT,))


def test_a_named_pipe_that_nobody_reads_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "fifo", os.O_WRONLY)
    os.close(reader)
    try:
        with _capsule(stdout=writer) as process, pytest.raises(FilesystemError, match="cannot be opened"):
            open_replacements(process.pid, (OUT,))
    finally:
        os.close(writer)
