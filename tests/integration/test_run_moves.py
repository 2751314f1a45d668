"""`crikpy run` itself moves a job: ended by SIGTERM with 75 here, resumed by the same command there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from crikpy.settings import Settings
from tests.integration.capsules import PATIENCE_S, ROOT, Stream, job_words, until

pytestmark = [pytest.mark.criu, pytest.mark.vm]

_CRIKPY = (sys.executable, "-c", "from crikpy.cli.main import main; main()")


class Machine:
    """Runs `crikpy` with places of its own for one job of a fixed name."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._store = folder / "store"
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "CRIKPY_CRIU_BUNDLE": str(settings.criu.bundle),
            "CRIKPY_CRIU_LAUNCHER": str(settings.criu.launcher),
            "CRIKPY_NOTICES_IMDS_ENABLED": "false",
            "CRIKPY_RUN_RUN_DIR": str(folder / "run"),
            "CRIKPY_RUN_LIB_DIR": str(folder / "lib"),
            "CRIKPY_RUN_LEASE_S": "2",
        }
        self._runs: list[Run] = []

    def run(self, *words: str) -> Run:
        """Begin or resume the job."""
        argv = (*_CRIKPY, "run", "--name", "moving", "--store", str(self._store), "--", *words)
        self._runs.append(Run(argv, self._environment))
        return self._runs[-1]

    def run_when_free(self, *words: str) -> Run:
        """Begin or resume the job as soon as the name of a killed `crikpy run` is free."""
        started: list[Run] = []

        def starts() -> bool:
            started.append(self.run(*words))
            until(lambda: started[-1].ended() or "goes on" in started[-1].stderr.text(), "its first word")
            return not started[-1].ended()

        until(starts, "a free name")
        return started[-1]

    def crikpy(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another command to its end."""
        return subprocess.run(
            (*_CRIKPY, *words), env=self._environment, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S
        )

    def end(self) -> None:
        """Kill whatever is left."""
        for run in self._runs:
            run.end()


class Run:
    """One `crikpy run`.

    Attributes:
        stdout: the job's output.
        stderr: what crikpy says.
        process: crikpy itself.
    """

    def __init__(self, argv: tuple[str, ...], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=ROOT
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.stdout, self.stderr = Stream(self.process.stdout), Stream(self.process.stderr)
        self.family: list[psutil.Process] = []

    def expect(self, start: str) -> None:
        """Wait for a line of the job; remember the processes by then."""
        line = self.stdout.next_line(start)
        assert line is not None, self.stderr.text()
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def ended(self) -> bool:
        """Say whether crikpy has ended."""
        return self.process.poll() is not None

    def wait(self) -> int:
        """Return crikpy's exit status."""
        return self.process.wait(PATIENCE_S)

    def end(self) -> None:
        """Kill it and those that it had begun, which outlive it."""
        self.process.kill()
        self.process.wait()
        for one in self.family:
            if one.is_running():
                one.kill()
        self.stdout.close()
        self.stderr.close()


@pytest.fixture
def machine(folder: Path, settings: Settings) -> Iterator[Machine]:
    """A machine with no job so far."""
    (folder / "store").mkdir()
    made = Machine(folder, settings)
    yield made
    made.end()


def test_a_sigterm_moves_the_job_and_no_line_is_lost(machine: Machine) -> None:
    runs = [machine.run(*job_words("lines"))]
    for _ in range(2):
        runs[-1].expect("")
        runs[-1].process.send_signal(signal.SIGTERM)
        assert runs[-1].wait() == 75, runs[-1].stderr.text()
        runs.append(machine.run(*job_words("lines")))
    runs[-1].expect("")
    runs[-1].process.send_signal(signal.SIGUSR2)
    assert runs[-1].wait() == 0
    *numbers, last = b"".join(run.stdout.whole() for run in runs).split()
    assert last == b"end"
    assert numbers == [b"%d" % number for number in range(len(numbers))]


def test_the_exit_status_is_that_of_the_resumed_job(machine: Machine) -> None:
    run = machine.run(*job_words("ending", 3))
    run.expect("ready")
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 75
    resumed = machine.run(*job_words("ending", 3))
    until(lambda: "resum" in resumed.stderr.text(), "word of the resumption")
    until(lambda: "goes on" in resumed.stderr.text(), "word of the resumed job")
    resumed.process.send_signal(signal.SIGUSR2)
    assert resumed.wait() == 3


def test_a_job_outlives_its_killed_crikpy_and_can_be_saved_by_another(machine: Machine) -> None:
    run = machine.run(*job_words("ending", 5))
    run.expect("ready")
    run.process.kill()
    run.wait()
    saved = machine.crikpy("checkpoint", "moving")
    assert saved.returncode == 0, saved.stderr
    until(lambda: not any(one.is_running() for one in run.family), "the end of the saved job")
    resumed = machine.run_when_free(*job_words("ending", 5))
    until(lambda: "goes on" in resumed.stderr.text(), "word of the resumed job")
    resumed.process.send_signal(signal.SIGUSR2)
    assert resumed.wait() == 5
