"""Machines on which tests call the real `crikpy`, as people and scripts do, and see only what these would see.

A machine is a pair of folders for what `crikpy run` keeps, and an environment. Everything begun on it carries a
mark in its environment, by which its end finds what is left. Usable without pytest.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from crikpy import names
from crikpy.errors import CrikpyError
from crikpy.model.workload import Workload
from crikpy.settings import Settings
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.local import LocalStore
from tests.integration.capsules import PATIENCE_S, ROOT, Stream, job_words, until
from tests.jobs import proving

PROGRAM = Path(sys.executable).with_name("crikpy")
NAME = "train"
_MARK = "TESTS_OF_CRIKPY"
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "XDG_CACHE_HOME")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A command that has ended: its exit status, as a shell shows it, and what it wrote."""

    status: int
    out: str
    err: str

    def require(self, kind: type[CrikpyError], *words: str) -> None:
        """Be an error of this kind: its exit status, last on standard error a line that holds the words and one
        that says what to do, the evidence indented below, and no traceback.
        """
        assert self.status == kind.exit_code, f"{self.status} instead of {kind.exit_code}:\n{self.err}"
        assert "Traceback" not in self.err
        lines = [line for line in self.err.splitlines() if not line.startswith("  | ")]
        what, remedy = lines[-2:] if len(lines) > 1 else (self.err, "")
        assert what.startswith("crikpy: "), self.err
        assert remedy.startswith("crikpy: what to do: "), self.err
        for word in words:
            assert word in what, f"{word!r} is not in {what!r}"


class Run:
    """A command under way that stays with its job, `crikpy run` or `crikpy restore`.

    Attributes:
        stdout: its output and the job's.
        stderr: its complaints and the job's.
        killed: whether `kill` has ended it.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.killed = False
        assert process.stdout is not None
        assert process.stderr is not None
        self.stdout, self.stderr = Stream(process.stdout), Stream(process.stderr)

    @property
    def pid(self) -> int:
        """The command's PID."""
        return self._process.pid

    def expect(self, start: str) -> str:
        """Wait for a line of output that starts so and return it."""
        line = self.stdout.next_line(start)
        assert line is not None, f"no line {start!r}:\n{self._tail()}"
        return line

    def hear(self, text: str) -> None:
        """Wait until this stands on standard error."""

        def said() -> bool:
            if text in self.stderr.text():
                return True
            assert self._process.poll() is None, f"ended without saying {text!r}:\n{self._tail()}"
            return False

        until(said, f"{text!r} on standard error")

    def signal(self, number: int) -> None:
        """Send the command a signal."""
        self._process.send_signal(number)

    def prove(self) -> None:
        """Have the job prove that it runs and is whole."""
        self.signal(proving.ASK)
        self.expect("proved ")

    def finish(self) -> Ended:
        """Have the job finish, and wait for the command's end."""
        self.signal(proving.FINISH)
        return self.wait()

    def terminate(self) -> Ended:
        """Send SIGTERM and wait for the end."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def running(self) -> bool:
        """Say whether the command runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill the command alone, as the kernel does when memory is short; its job stays."""
        self.killed = True
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def wait(self) -> Ended:
        """Wait for the end, by itself."""
        try:
            status = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"it never ended:\n{self._tail()}") from late
        out, err = self.stdout.whole().decode(), self.stderr.whole().decode()
        return Ended(status=status if status >= 0 else 128 - status, out=out, err=err)

    def _tail(self) -> str:
        return f"{self.stdout.text()[-2000:]}\n{self.stderr.text()[-4000:]}"

    def end(self) -> None:
        """Reap a command whose processes are all gone."""
        self._process.wait(PATIENCE_S)
        self.stdout.close()
        self.stderr.close()


class Machine:
    """A machine with `crikpy` on it.

    Attributes:
        store: URL of the store that its commands use.
        environment: of every command.
    """

    def __init__(self, folder: Path, settings: Settings, *, store: str = "", lib_dir: Path | None = None) -> None:
        """Take a folder for everything, and perhaps another machine's folder for the jobs' temporary files."""
        folder.mkdir(exist_ok=True)
        self.store = store or str(folder / "store")
        self.run_dir = folder / "run"
        self.lib_dir = lib_dir or folder / "lib"
        self._mark = secrets.token_hex(8)
        self._runs: list[Run] = []
        self.environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "CRIKPY_CRIU_BUNDLE": str(settings.criu.bundle),
            "CRIKPY_CRIU_LAUNCHER": str(settings.criu.launcher),
            "CRIKPY_NOTICES_IMDS_ENABLED": "false",
            "CRIKPY_RUN_RUN_DIR": str(self.run_dir),
            "CRIKPY_RUN_LIB_DIR": str(self.lib_dir),
            _MARK: self._mark,
        }

    def start(self, job: str, *arguments: object, options: Sequence[str] = (), ready: str = "ready") -> Run:
        """Run a program of tests/jobs until it says that it is ready."""
        run = self.run(*job_words(job, *arguments), options=options)
        run.expect(ready)
        return run

    def run(
        self, *words: str, name: str = NAME, options: Sequence[str] = (), changes: Mapping[str, str] | None = None
    ) -> Run:
        """Begin `crikpy run` of a command."""
        return self.begin("run", "--name", name, "--store", self.store, *options, "--", *words, changes=changes)

    def begin(self, *arguments: str, changes: Mapping[str, str] | None = None) -> Run:
        """Begin a command that stays with its job, in an environment with some changes."""
        return self._begin((str(PROGRAM), *arguments), changes or {})

    def begin_into(self, file: Path, *arguments: str) -> Run:
        """Begin a command whose output a shell appends to a file."""
        return self._begin(("sh", "-c", 'exec "$@" >> "$0"', str(file), str(PROGRAM), *arguments), {})

    def begin_on_terminal(self, *arguments: str) -> Run:
        """Begin a command on a terminal of its own; whatever appears there is its output."""
        words = shlex.join((str(PROGRAM), *arguments))
        return self._begin(("script", "--quiet", "--return", "--flush", "--command", words, "/dev/null"), {})

    def _begin(self, words: Sequence[str], changes: Mapping[str, str]) -> Run:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={**self.environment, **changes},
            start_new_session=True,
        )
        run = Run(process)
        self._runs.append(run)
        return run

    def crikpy(self, *arguments: str, changes: Mapping[str, str] | None = None) -> Ended:
        """Call a command and wait for its end, in an environment with some changes."""
        return self.call((str(PROGRAM), *arguments), changes=changes)

    def call(self, words: Sequence[str], *, changes: Mapping[str, str] | None = None) -> Ended:
        """Call any program and wait for its end, in the environment of the machine's commands."""
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**self.environment, **(changes or {})},
            timeout=2 * PATIENCE_S,
            start_new_session=True,
        )
        status = done.returncode if done.returncode >= 0 else 128 - done.returncode
        return Ended(status=status, out=done.stdout, err=done.stderr)

    def of_store(self, command: str, *arguments: str) -> Ended:
        """Call a command that looks into the store."""
        return self.crikpy(command, *arguments, "--store", self.store)

    def checkpoints(self, name: str = NAME) -> Checkpoints:
        """The checkpoints of a job in the machine's store, which must be a directory."""
        cluster, namespace = names.PLAIN_GROUP
        return Checkpoints(LocalStore(Path(self.store)), Workload(cluster=cluster, namespace=namespace, name=name))

    def save(self, job: str, *arguments: object) -> str:
        """Run a job until it is ready, save it by SIGTERM, and return the checkpoint's id."""
        ended = self.start(job, *arguments).terminate()
        assert ended.status == names.EXIT_CHECKPOINTED, ended.err
        return self.newest()

    def newest(self) -> str:
        """Return the id of the newest complete checkpoint."""
        newest = self.checkpoints().newest_complete()
        assert newest is not None, "no complete checkpoint"
        return newest.id

    def states(self) -> list[str]:
        """Return the state of each checkpoint, the newest first, as the first word of `crikpy list`."""
        return [str(entry["state"]).split()[0] for entry in json.loads(self.of_store("list", "--output=json").out)]

    def deserted(self) -> bool:
        """Say whether every command has ended in its own way, so that nothing may be left of it."""
        return not any(run.running() or run.killed for run in self._runs)

    def leftovers(self) -> dict[int, str]:
        """Return every process that was begun on the machine and lives, by its PID on the node."""
        return dict(self._marked())

    def end(self) -> None:
        """Kill whatever is left, see that it is gone, and forget it."""
        until(self._kill_leftovers, "the end of every process")
        for run in self._runs:
            run.end()

    def _kill_leftovers(self) -> bool:
        left = self.leftovers()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    def _marked(self) -> Iterator[tuple[int, str]]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(_MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    yield process.pid, " ".join(process.cmdline())
