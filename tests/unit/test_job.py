"""The module that jobs import: it needs next to nothing, does nothing elsewhere, and hears nobody from inside."""

from __future__ import annotations

import ast
import os
import shutil
import socket
import subprocess
import sys
import threading
from array import array
from pathlib import Path

import crikpy.job

SOURCE = Path(crikpy.job.__file__)

ELSEWHERE = """
import sys, threading
import MODULE as job
job.on_checkpoint(print)
job.on_restore(print)
job.on_save(print)
with job.freeze_barrier():
    with job.freeze_barrier():
        pass
@job.freeze_barrier()
def step(number: int) -> int:
    return number + 1
assert step(1) == 2
assert threading.active_count() == 1
print(sorted(name for name in sys.modules if name.startswith("crikpy")))
"""

FORKING = """
import os, sys
from crikpy import job
job.on_checkpoint(print)
before = sorted(os.listdir(os.environ["CRIKPY_JOB_DIR"]))
pid = os.fork()
if pid == 0:
    with job.freeze_barrier():
        pass
    print(len(os.listdir(os.environ["CRIKPY_JOB_DIR"])), flush=True)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""

WAITING = """
import sys
from crikpy import job
job.on_checkpoint(lambda coming: print("heard", flush=True))
print("ready", flush=True)
sys.stdin.read()
"""


def _run(program: str, *, folder: Path, **environment: str) -> str:
    """Run a program with the folder as its current one, which is none of crikpy's capsules."""
    variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    variables.pop("CRIKPY_JOB_DIR", None) if "CRIKPY_JOB_DIR" not in environment else None
    done = subprocess.run(
        (sys.executable, "-c", program), cwd=folder, env=variables, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_written_for_python_3_8_and_the_standard_library_alone() -> None:
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 8))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "."]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]


def test_it_brings_nothing_else_of_crikpy_with_it_and_does_nothing_elsewhere(tmp_path: Path) -> None:
    assert _run(ELSEWHERE.replace("MODULE", "crikpy.job"), folder=tmp_path) == "['crikpy', 'crikpy.job']\n"


def test_a_copy_of_the_one_file_does_as_well(tmp_path: Path) -> None:
    shutil.copy(SOURCE, tmp_path / "crikpy_job.py")
    assert _run(ELSEWHERE.replace("MODULE", "crikpy_job"), folder=tmp_path) == "['crikpy_job']\n"


def test_a_folder_that_cannot_be_written_costs_the_job_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    program = ELSEWHERE.replace("MODULE", "crikpy.job")
    assert _run(program, folder=tmp_path, CRIKPY_JOB_DIR=str(tmp_path / "file/below")).startswith("['crikpy")


def test_a_process_that_was_forked_off_listens_for_itself_only_if_it_wants_to(tmp_path: Path) -> None:
    assert _run(FORKING, folder=tmp_path, CRIKPY_JOB_DIR=str(tmp_path / "here")) == "2\n"


def test_nobody_inside_of_its_pid_namespace_is_heard(tmp_path: Path) -> None:
    environment = {**os.environ, "CRIKPY_JOB_DIR": str(tmp_path)}
    with subprocess.Popen(
        (sys.executable, "-c", WAITING), env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as job:
        assert job.stdout is not None
        assert job.stdin is not None
        assert job.stdout.readline() == b"ready\n"
        path = tmp_path / f"job-{job.pid}.sock"
        assert path.stat().st_mode & 0o777 == 0o600
        reading, writing = os.pipe()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [writing]))]
            sender.sendmsg([b"crikpy-job 1 checkpoint 10.0"], rights, 0, str(path))
        os.close(writing)
        assert os.read(reading, 100) == b""  # hung up without a word
        os.close(reading)
        job.stdin.close()
        assert job.stdout.read() == b""


def test_a_section_waits_while_a_checkpoint_is_taken_and_begins_when_that_is_over() -> None:
    rounds = crikpy.job._Rounds()
    rounds.listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    rounds.tried = True
    reading, writing = os.pipe()
    rounds.hear(["crikpy-job", "1", "checkpoint", "30.0"], writing)
    assert os.read(reading, 100) == b"ready\n"
    entered = threading.Event()

    def section() -> None:
        rounds.enter()
        entered.set()
        rounds.leave()

    thread = threading.Thread(target=section)
    thread.start()
    assert not entered.wait(0.2)
    again, answer = os.pipe()
    rounds.hear(["crikpy-job", "1", "after", "continued"], answer)
    thread.join(10)
    assert entered.is_set()
    assert os.read(again, 100) == b"ready\n"
    rounds.listener.close()
    os.close(reading)
    os.close(again)
