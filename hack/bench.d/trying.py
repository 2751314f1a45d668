"""Tries one workload of the matrix: undisturbed, then saved in mid-work and resumed in another container.

What came of it is judged by the workload's own check. Nothing here knows any program.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from catalogue.describing import Seen, Verdict, Workload

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from crikpy import names
from crikpy.capsule import surveying
from crikpy.capsule.preflight import Survey
from crikpy.errors import CrikpyError, UnsupportedJobError
from crikpy.model.capsule import JobPhase
from crikpy.settings import Settings
from tests.integration.capsules import JobCapsule
from tests.integration.moving import Bench, Kind

_PROGRAMS = Path(__file__).resolve().parent / "programs"
_ENTER = ("--mount", "--net", "--ipc", "--uts")
_CLIENT_S = 120.0
_PYTHON = "/opt/frameworks/bin/python"


class TrialError(Exception):
    """The trial itself went wrong, and says nothing of the move.

    Attributes:
        detail: the last words of the job.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a workload.

    Attributes:
        verdict: word of Verdict.
        why: the refusal's sentence, or what failed and what to do; empty where nothing did.
        version: of the program.
        processes: at the move.
        threads: of all of them together.
        descriptors: open files of all processes together.
        mappings: areas of memory of all processes together.
        memory_bytes: resident memory that no file backs, shared memory once.
        stored_bytes: what the checkpoint took in the store; None without one.
        frozen_s: seconds from the first stopped process to the commit; None without a checkpoint.
        restore_s: seconds from the new container's readiness to the running job; None without.
        machine: what it ran on.
    """

    verdict: str
    why: str
    version: str
    processes: int
    threads: int
    descriptors: int
    mappings: int
    memory_bytes: int
    machine: str
    stored_bytes: int | None = None
    frozen_s: float | None = None
    restore_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moved:
    """How far a move came."""

    seen: Seen
    survey: Survey
    descriptors: int
    mappings: int
    version: str
    verdict: Verdict | None = None
    why: str = ""
    stored_bytes: int | None = None
    frozen_s: float | None = None
    restore_s: float | None = None


def try_out(workload: Workload, lower: Sequence[Path], settings: Settings, machine: str) -> Outcome:
    """Run a workload undisturbed and moved.

    Args:
        workload: which.
        lower: the layers of its image, the uppermost first.
        settings: of the engine.
        machine: what this is, for the record.

    Raises:
        TrialError: it did not even run undisturbed, or was done too early.
    """
    plain = ""
    if workload.ends and workload.check.compares:
        with _bench(workload, lower, settings) as bench:
            plain = _undisturbed(bench, workload)
    with _bench(workload, lower, settings) as bench:
        moved = _move(bench, workload, plain)
    verdict, why = moved.verdict, moved.why
    if verdict is None:
        why = workload.check.fault(moved.seen)
        if why:
            tell(TrialError(why, f"{moved.seen}"[-4000:]))
        verdict = Verdict.LOST if why else workload.check.verdict
    shared = max(process.shared_bytes for process in moved.survey.processes)
    return Outcome(
        verdict=verdict,
        why=why,
        version=moved.version,
        processes=len(moved.survey.processes),
        threads=sum(process.threads for process in moved.survey.processes),
        descriptors=moved.descriptors,
        mappings=moved.mappings,
        memory_bytes=sum(process.anonymous_bytes for process in moved.survey.processes) + shared,
        machine=machine,
        stored_bytes=moved.stored_bytes,
        frozen_s=moved.frozen_s,
        restore_s=moved.restore_s,
    )


@contextlib.contextmanager
def _bench(workload: Workload, lower: Sequence[Path], settings: Settings) -> Iterator[Bench]:
    """Lend a bench whose containers have the workload's image."""
    with tempfile.TemporaryDirectory(prefix="crikpy-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        bench = Bench(folder, Kind.CONTAINER, settings)
        bench.lower = [*_own_layer(workload, folder / "image"), *lower]
        bench.allowed = workload.allowed
        bench.environment = dict(workload.environment)
        bench.uid = workload.uid
        try:
            yield bench
        finally:
            bench.end()


def _own_layer(workload: Workload, folder: Path) -> list[Path]:
    """Write the files that a workload brings along; without any there is no layer of them."""
    ours = [
        path
        for path in _PROGRAMS.iterdir()
        if any(f"/opt/programs/{path.name}" in word for word in workload.words)
    ]
    files = {f"/opt/programs/{path.name}": path.read_text() for path in ours} | dict(workload.files)
    for name, text in files.items():
        file = folder / name.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
    return [folder] if files else []


def _undisturbed(bench: Bench, workload: Workload) -> str:
    """Return what it prints when nothing happens to it."""
    job = _begun(bench, workload, 1)
    return _end_of(job, workload, "undisturbed")


def _move(bench: Bench, workload: Workload, plain: str) -> _Moved:
    """Save it in mid-work and resume it in another container."""
    job = _begun(bench, workload, 1)
    version = _version(job, workload)
    _await_progress(job, workload)
    time.sleep(workload.settle_s)
    before = _client(job, workload.before)
    pids = _root_first(job)
    so_far = _Moved(
        seen=Seen(plain=plain, before=before),
        survey=surveying.survey(pids),
        descriptors=sum(_descriptors(pid) for pid in pids),
        mappings=sum(_mappings(pid) for pid in pids),
        version=version,
    )
    try:
        manifest = bench.save(job, within_s=workload.timeout_s)
    except CrikpyError as fault:
        return _unsaved(so_far, job, workload, fault)
    status = job.wait(patience_s=workload.timeout_s)
    if status != names.EXIT_CHECKPOINTED:
        raise TrialError(f"the saved job ended with {status}", _last_words(job))
    first = job.stdout.whole().decode(errors="replace")
    sizes = manifest.sizes.stored_bytes, manifest.frozen_s
    capsule = bench.vacant()
    _address(capsule, 2)
    try:
        began = time.monotonic()
        with capsule.held() as launcher:
            bench.restore(manifest, capsule, launcher, within_s=workload.timeout_s)
        restore_s = time.monotonic() - began
        after = _client(capsule, workload.after)
        second = _end_of(capsule, workload, "after the move") if workload.ends else capsule.stdout.text()
    except (CrikpyError, TrialError) as fault:
        tell(fault)
        return replace(
            so_far, verdict=Verdict.LOST, why=_sentence(fault), stored_bytes=sizes[0], frozen_s=sizes[1]
        )
    if workload.ends and not second:
        raise TrialError("nothing was left to do when it was resumed: save it earlier, or give it more to do")
    seen = Seen(plain=plain, first=first, second=second, before=before, after=after)
    return replace(so_far, seen=seen, stored_bytes=sizes[0], frozen_s=sizes[1], restore_s=restore_s)


def _unsaved(so_far: _Moved, job: JobCapsule, workload: Workload, fault: CrikpyError) -> _Moved:
    """Say why it was not saved, once it is seen to run on, and to come to what it should."""
    tell(fault)
    try:
        phase = job.phase()
    except CrikpyError as gone:
        raise TrialError(f"it was not saved, and its launcher has gone: {fault}", _last_words(job)) from gone
    if phase is not JobPhase.RUNNING:
        raise TrialError(f"it was not saved, and is {phase}: {fault}", _last_words(job)) from fault
    verdict = Verdict.REFUSED if isinstance(fault, UnsupportedJobError) else Verdict.UNSAVED
    why = _sentence(fault)
    if wrong := _harm(so_far.seen, job, workload):
        verdict, why = Verdict.LOST, f"it could not be saved ({why}), and came to harm: {wrong}"
    return replace(so_far, verdict=verdict, why=why)


def _harm(seen: Seen, job: JobCapsule, workload: Workload) -> str:
    """Return what is wrong with a job that runs on after a failed attempt, or nothing."""
    try:
        if not workload.ends:
            return workload.check.fault(replace(seen, after=_client(job, workload.after))) if seen.before else ""
        return workload.check.fault(replace(seen, second=_end_of(job, workload, "after the attempt to save it")))
    except TrialError as fault:
        tell(fault)
        return _sentence(fault)


def _begun(bench: Bench, workload: Workload, number: int) -> JobCapsule:
    job = bench.vacant(*workload.words)
    _address(job, number)
    job.start()
    return job


def _address(job: JobCapsule, number: int) -> None:
    """Give a container an address of its own, as a pod has; another one in the next container."""
    words = ("ip", "address", "add", f"10.88.0.{number}/32", "dev", "lo")
    subprocess.run(("nsenter", f"--target={job.launcher_pid}", "--net", "--", *words), check=True, timeout=30)


def _await_progress(job: JobCapsule, workload: Workload) -> None:
    wanted = re.compile(workload.progress, re.MULTILINE)
    for _ in _until(workload.timeout_s, f"it never printed {workload.progress}", job):
        if wanted.search(job.stdout.text()) or wanted.search(job.stderr.text()):
            return
        if job.ended():
            raise TrialError("it ended too early", _last_words(job))


def _end_of(job: JobCapsule, workload: Workload, how: str) -> str:
    """Wait for a job's end, and return what it has printed."""
    for _ in _until(workload.timeout_s, f"it never ended, {how}", job):
        if job.ended():
            break
    status = job.wait()
    text = job.stdout.whole().decode(errors="replace")
    if status != 0:
        raise TrialError(f"it ended with status {status}, {how}", _last_words(job))
    return text


def _until(seconds: float, otherwise: str, job: JobCapsule) -> Iterator[None]:
    """Yield again and again for so long, then raise."""
    late = time.monotonic() + seconds
    while time.monotonic() < late:
        yield
        time.sleep(0.01)
    raise TrialError(f"{otherwise} within {seconds:g} s", _last_words(job))


def _client(job: JobCapsule, words: Sequence[str]) -> str:
    """Run a command in a container's namespaces, but for its PIDs, and return what it prints."""
    if not words:
        return ""
    enter = ("nsenter", f"--target={job.launcher_pid}", *_ENTER, "--", "/usr/bin/env", "--ignore-environment")
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    whole = (*enter, path, "HOME=/tmp", "LANG=C.UTF-8", *words)
    done = subprocess.run(whole, check=False, capture_output=True, text=True, timeout=_CLIENT_S)
    if done.returncode != 0:
        raise TrialError("its client failed", (done.stderr or done.stdout)[-2000:])
    return done.stdout


def _version(job: JobCapsule, workload: Workload) -> str:
    """Return the version of the package or of the requirement that is named first."""
    if workload.python:
        name = re.split(r"[^\w.-]", workload.versioned or workload.python[0])[0]
        ask = f"import importlib.metadata as found; print(found.version({name!r}))"
        return _client(job, (_PYTHON, "-c", ask)).strip()
    package = workload.versioned or workload.packages[0]
    full = _client(job, ("dpkg-query", "--show", "--showformat=${Version}", package))
    return re.split(r"[-+~]", full.partition(":")[2] or full)[0]


def _root_first(job: JobCapsule) -> list[int]:
    """Return the job's processes as the node sees them, its root first."""
    with job.connect() as launcher:
        root = launcher.greeting.job_pid
    inside = job.members()
    return sorted(inside, key=lambda pid: (inside[pid] != root, pid))


def _descriptors(pid: int) -> int:
    """Return how many files a process has open; none if it is gone."""
    with contextlib.suppress(OSError):
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return 0


def _mappings(pid: int) -> int:
    """Return how many areas of memory a process has; none if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/maps").read_bytes().count(b"\n")
    return 0


def _sentence(fault: Exception) -> str:
    return " ".join(str(fault).split())[:600]


def _last_words(job: JobCapsule) -> str:
    return f"{job.stdout.text()[-600:]}\n{job.stderr.text()[-1500:]}"


def tell(fault: Exception) -> None:
    """Print what helps whoever looks into a failure, such as the end of CRIU's log."""
    detail = getattr(fault, "detail", "")
    print(
        "\n".join(itertools.chain([f"  {fault}"], (f"    {line}" for line in detail.splitlines()))),
        file=sys.stderr,
    )
