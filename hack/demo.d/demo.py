"""The demo's story: a training job, a spot interruption, another machine, and a comparison.

Run by hack/demo, which has made what this needs. Standard output tells the story; its last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from jobs import Job, News, read_steps
from machines import CHECKOUT, HERE, DemoError, Machine, first_line
from proof import Findings, draw
from tests.fakes.imds import tell as tell_imds

STEPS, NOTICE_AFTER, PACE_S = 240, 100, 0.05
WARNING_S = 120
PATIENCE_S = 60.0
MOVED = 75

METADATA_ADDRESS = "169.254.169.254"
# A network that RFC 5737 keeps for examples; it exists between the machines only.
STORE, MACHINE_A, MACHINE_B = "192.0.2.1", "192.0.2.2", "192.0.2.3"
BUCKET = "crikpy-demo"

PICTURE = Path("demo-losses.png")
PYTHON = Path(sys.prefix) / "bin/python"
PROGRAMS = {"numpy": "train.py", "torch": "train_torch.py"}
LABELS = {"numpy": "numpy training, two pool workers", "torch": "PyTorch training, two DataLoader workers"}

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Timeline:
    """Prints what happens, in seconds since the notice."""

    def __init__(self) -> None:
        self.notice_at: float | None = None

    def tell(self, at: float, machine: Machine, what: str) -> None:
        """Print a line; before the notice there is no time to give."""
        since = "" if self.notice_at is None else f"{at - self.notice_at:+.2f} s"
        print(f"{since:>10}  {machine.name:<9}  {what}", flush=True)


class Demo:
    """The machines and what runs on them; use `play`."""

    def __init__(self, work: Path, program: str, findings: Findings) -> None:
        self._work = work
        self._findings = findings
        self._timeline = Timeline()
        self._store_variables: dict[str, str] = {}
        self._training = (str(PYTHON), PROGRAMS[program], "--steps", str(STEPS))

    def play(self) -> None:
        """Tell the whole story and put into the findings what comes out.

        Raises:
            DemoError: it could not be told to its end.
        """
        with contextlib.ExitStack() as stack:
            store, a, b, elsewhere = (
                stack.enter_context(self._machine(name))
                for name in ("store", "machine-a", "machine-b", "elsewhere")
            )
            self._start_store(store)
            for machine, address in ((a, MACHINE_A), (b, MACHINE_B)):
                store.link(machine, STORE, address)
                self._start_metadata(machine)
            first = self._lose_machine(a)
            second = self._resume(b)
            self._judge(first, second, self._run_undisturbed(elsewhere))

    def _lose_machine(self, machine: Machine) -> Job:
        """Start the job, interrupt it in the middle, and take the machine away."""
        job = self._run(machine)
        for news in job.news(PATIENCE_S):
            self._show(job, news)
            if news.event == "step" and news.facts["step"] == NOTICE_AFTER:
                self._give_notice(machine)
        if job.status != MOVED:
            raise _failed(job)
        machine.kill()
        self._timeline.tell(time.monotonic(), machine, "is gone")
        return job

    def _give_notice(self, machine: Machine) -> None:
        self._timeline.notice_at = time.monotonic()
        order = {"do": "spot", "action": "terminate", "in_s": WARNING_S}
        tell_imds(machine.root / "run/imds.sock", order)
        self._timeline.tell(
            self._timeline.notice_at, machine, f"EC2 takes it away in {WARNING_S} s (after step {NOTICE_AFTER})"
        )

    def _resume(self, machine: Machine) -> Job:
        """Say the same words on the other machine, and wait for the job's end."""
        job = self._run(machine)
        for news in job.news(PATIENCE_S):
            self._show(job, news)
        self._timeline.tell(time.monotonic(), machine, f"the job ends with status {job.status}")
        if job.status != 0:
            raise _failed(job)
        return job

    def _show(self, job: Job, news: News) -> None:
        facts, tell = news.facts, self._timeline.tell
        since_notice = news.at - (self._timeline.notice_at or news.at)
        match news.event:
            case "step":
                if self._timeline.notice_at is not None and len(job.steps) == 1:
                    tell(news.at, job.machine, f"takes step {facts['step']}, the first here")
            case "frozen":
                self._findings.notice_to_frozen_s = since_notice
                tell(
                    news.at, job.machine, f"frozen: every process stands still, after step {job.steps[-1]['step']}"
                )
            case "streamed":
                tell(
                    news.at, job.machine, f"streamed: {_mib(facts['bytes'])} of memory and files are in the store"
                )
            case "committed":
                self._findings.notice_to_committed_s = since_notice
                self._findings.memory_bytes = facts["image_bytes"]
                self._findings.stored_bytes = facts["stored_bytes"]
                self._findings.processes = facts["processes"]
                tell(
                    news.at,
                    job.machine,
                    f"committed: the checkpoint is complete, {_mib(facts['stored_bytes'])} stored",
                )
            case "resumed":
                self._findings.resume_s = news.at - job.started_at
                tell(news.at, job.machine, f"resumed: {facts['message']}")
            case "started" | "resuming":
                tell(news.at, job.machine, facts["message"])
            case event:
                tell(news.at, job.machine, f"{event}: {facts['message']}")

    def _judge(self, first: Job, second: Job, undisturbed: bytes) -> None:
        diary = read_steps(second.machine.root / "srv/job/diary.jsonl")
        expected = read_steps(undisturbed)
        self._findings.compare(first.steps, second.steps, expected, diary)
        if not (first.steps and second.steps):
            raise DemoError("the job has not run on both machines")
        stood_still_s = self._findings.stood_still_s = second.first_step_at - first.last_step_at
        draw(first.steps, second.steps, expected, stood_still_s, PICTURE)

    # The machines.

    def _machine(self, name: str) -> Machine:
        bundle, launcher = Path(os.environ["CRIKPY_CRIU_BUNDLE"]), Path(os.environ["CRIKPY_CRIU_LAUNCHER"])
        machine = Machine(name, self._work / name, (CHECKOUT, Path(sys.base_prefix), bundle, launcher.parent))
        programs = machine.root / "srv/job"
        programs.mkdir(parents=True)
        for program in ("diary.py", *PROGRAMS.values()):
            shutil.copy(HERE / program, programs)
        return machine

    def _start_store(self, machine: Machine) -> None:
        machine.ip("address", "add", f"{STORE}/32", "dev", "lo")
        server = machine.start([PYTHON, HERE / "store.py", "/var/lib/s3", STORE, BUCKET], _fakes_environment())
        self._store_variables = json.loads(first_line(server, "the S3 server"))

    def _start_metadata(self, machine: Machine) -> None:
        machine.ip("address", "add", f"{METADATA_ADDRESS}/32", "dev", "lo")
        words = ["-m", "tests.fakes.imds", "serve", "--address", METADATA_ADDRESS, "--port", "80"]
        instance = f"i-0{machine.name[-1] * 16}"
        service = machine.start(
            [PYTHON, *words, "--control", "/run/imds.sock", "--instance", instance], _fakes_environment()
        )
        first_line(service, f"the metadata service of {machine.name}")

    def _run(self, machine: Machine) -> Job:
        words = ["crikpy", "run", "--name", "demo", "--store", f"s3://{BUCKET}/demo", "--output", "json", "--"]
        ours = {name: value for name, value in os.environ.items() if name.startswith("CRIKPY_CRIU_")}
        environment = {**_environment(), **self._store_variables, **ours}
        return Job(machine, [*words, *self._training, "--pace", str(PACE_S)], environment)

    def _run_undisturbed(self, machine: Machine) -> bytes:
        training = machine.start(self._training, _environment())
        try:
            out, faults = training.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise DemoError(f"the undisturbed run did not end in {PATIENCE_S:.0f} s") from None
        if training.returncode != 0:
            raise DemoError(f"the undisturbed run failed: {faults.decode(errors='replace')}")
        return out


def _environment() -> dict[str, str]:
    """Return what every program on a machine gets: one thread each, so that sums have one order."""
    kept = ("LD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
    return {
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PATH": f"{PYTHON.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        **{name: os.environ[name] for name in kept if name in os.environ},
    }


def _fakes_environment() -> dict[str, str]:
    return {**_environment(), "PYTHONPATH": str(CHECKOUT)}


def _failed(job: Job) -> DemoError:
    evidence = job.evidence()
    return DemoError(f"`crikpy run` on {job.machine.name} ended with status {job.status}\n{evidence}")


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


def _require_able() -> None:
    """Let `crikpy check` say whether this machine can do it."""
    checked = subprocess.run(
        ["crikpy", "check"], check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    if checked.returncode != 0:
        raise DemoError(f"this machine cannot save jobs:\n{checked.stdout}{checked.stderr}")


@contextlib.contextmanager
def _work_folder(*, keep: bool) -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(prefix="crikpy-demo-"))
    try:
        yield work
    finally:
        if keep:
            print(f"demo: what the machines wrote is kept in {work}", file=sys.stderr)
        else:
            shutil.rmtree(work)


def _interrupt(*_: object) -> NoReturn:
    """Stop the story; what follows is tidying up, which nothing may interrupt."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """Play the demo; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", choices=PROGRAMS, required=True)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    findings, status = Findings(job=arguments.program), 1
    try:
        _require_able()
        print(
            f"{LABELS[arguments.program]}, {STEPS} steps; two machines, and only an S3 server between them",
            flush=True,
        )
        with _work_folder(keep=arguments.keep) as work:
            Demo(work, arguments.program, findings).play()
        status = 0 if findings.survived else 1
        print(f"{findings.sentence()}\nthe curve across the move: {PICTURE.resolve()}", flush=True)
    except (DemoError, OSError, ValueError, subprocess.SubprocessError) as fault:
        print(f"demo: {fault}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr, flush=True)
        status = 130
    print(findings.line(), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
