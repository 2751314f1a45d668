"""Where a named job lives on a plain machine: its launcher's socket, its temporary files, what others may know.

Other commands on this machine find a running job here. Nothing in these files is secret; the directories are
root's alone all the same, since whoever may speak with a launcher rules its job.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from crikpy import names
from crikpy.aio.clock import Deadline
from crikpy.capsule.launcher import LauncherConnection
from crikpy.errors import CapsuleError, JobRunningError, NoLauncherError, NoSuchJobError
from crikpy.model.capsule import Capsule
from crikpy.model.saving import Mode, SaveOptions
from crikpy.model.workload import Workload
from crikpy.settings import RunSettings

_RECORD = "job.json"
_MOVED = "moved"
_UNDONE = "undone"
_LONGEST_FOLDER = 40
"""Sockets below the temporary directory must fit into the 108 bytes of a Unix address."""

_ANSWER_S = 5.0
_DEFAULTS = SaveOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningHere:
    """A job of this machine, as its own `crikpy run` recorded it.

    Attributes:
        workload: the job's name and group.
        store_url: where its checkpoints go.
        command: its command line.
        capsule: its capsule.
        holder: token of the claim by which its name was taken.
        saving: what it hears of its checkpoints, and who saves it.
    """

    workload: Workload
    store_url: str
    command: tuple[str, ...]
    capsule: Capsule
    holder: str
    saving: SaveOptions


class JobPlace:
    """The places of one named job.

    Attributes:
        socket: where its launcher listens.
        hooks: where it listens itself for its checkpoints (crikpy.job).
        temporary: its directory for temporary files, the same path on every machine.
    """

    def __init__(self, settings: RunSettings, workload: Workload) -> None:
        folder = _folder(workload)
        self._workload = workload
        self._run = settings.run_dir / folder
        self._lib = settings.lib_dir / folder
        self.socket = self._run / names.LAUNCHER_SOCKET
        self.temporary = self._lib / "tmp"
        self.hooks = self.temporary / names.JOB_DIR

    def require_free(self) -> None:
        """Make sure that no job of this name runs here; what an earlier one left may still lie here.

        Raises:
            JobRunningError: one runs, though its `crikpy run` may be gone.
            LauncherError, DeadlineError: somebody listens there, but does not answer as we expect.
        """
        if (launcher := self._running_launcher()) is not None:
            raise JobRunningError(
                f"a job named {self._workload.name} runs on this machine, its launcher is process {launcher}",
                remedy=f"`crikpy checkpoint {self._workload.name}` saves and ends it",
            )

    def record(
        self,
        store_url: str,
        command: tuple[str, ...],
        capsule: Capsule,
        holder: str,
        saving: SaveOptions = _DEFAULTS,
    ) -> None:
        """Leave word of a running job for other commands.

        Raises:
            CapsuleError: it cannot be written.
        """
        facts = {
            "cluster": self._workload.cluster,
            "namespace": self._workload.namespace,
            "name": self._workload.name,
            "store": store_url,
            "command": command,
            "carried": capsule.carried,
            "excluded": capsule.excluded,
            "inherited": capsule.inherited,
            "holder": holder,
            "saving": asdict(saving),
        }
        _write(self._run / _RECORD, json.dumps(facts))

    def find(self) -> RunningHere:
        """Return the job that runs here.

        Raises:
            NoSuchJobError: none does.
            LauncherError, DeadlineError: somebody listens there, but does not answer as we expect.
            CapsuleError: it runs, but its record cannot be read.
        """
        launcher = self._running_launcher()
        if launcher is None:
            raise NoSuchJobError(
                f"no job named {self._workload.name} runs on this machine",
                remedy="jobs are started with `crikpy run --name NAME`",
            )
        try:
            facts = json.loads((self._run / _RECORD).read_text())
            return RunningHere(
                workload=self._workload,
                store_url=facts["store"],
                command=tuple(facts["command"]),
                capsule=Capsule(
                    launcher_pid=launcher,
                    socket=self.socket,
                    carried=tuple(facts["carried"]),
                    excluded=tuple(facts["excluded"]),
                    inherited=tuple(facts.get("inherited", ())),
                    hooks=str(self.hooks),
                ),
                holder=facts["holder"],
                saving=_saving(facts.get("saving", {})),
            )
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise CapsuleError(f"the record of the running job {self._workload.name} is unreadable") from fault

    def mark_moved(self) -> None:
        """Say that the job's end is not its end: a committed checkpoint goes on from here.

        Raises:
            CapsuleError: it cannot be written.
        """
        _write(self._run / _MOVED, "")

    def moved(self) -> bool:
        """Say whether the job was saved and ended for that."""
        return (self._run / _MOVED).exists()

    def mark_undone(self) -> None:
        """Say that the job has ended as it was asked to save itself, and is not done though nothing was saved.

        Raises:
            CapsuleError: it cannot be written.
        """
        _write(self._run / _UNDONE, "")

    def undone(self) -> bool:
        """Say whether the job has ended without being done."""
        return (self._run / _UNDONE).exists()

    def empty_temporary(self) -> None:
        """Remove the job's temporary files."""
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir(parents=True, exist_ok=True)
        self.temporary.chmod(0o1777)

    def remove(self) -> None:
        """Remove everything; the job must have ended."""
        shutil.rmtree(self._run, ignore_errors=True)
        shutil.rmtree(self._lib, ignore_errors=True)

    def _running_launcher(self) -> int | None:
        try:
            with LauncherConnection(self.socket, Deadline.after(_ANSWER_S)) as found:
                return found.launcher_pid
        except NoLauncherError:
            return None  # anything else is a launcher with a job, however it answers


def recorded(settings: RunSettings) -> list[Workload]:
    """Return the jobs that have a record on this machine, by name; whether one still runs, JobPlace.find says."""
    found = []
    for record in sorted(settings.run_dir.glob(f"*/{_RECORD}")):
        try:
            facts = json.loads(record.read_text())
            found.append(Workload(cluster=facts["cluster"], namespace=facts["namespace"], name=facts["name"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it is being written or removed, or is nobody's
    return found


def _folder(workload: Workload) -> str:
    """Return a folder name: the job's own where it is short, otherwise a prefix and a hash of all parts."""
    plain = workload.name
    if (workload.cluster, workload.namespace) == names.PLAIN_GROUP and len(plain) <= _LONGEST_FOLDER:
        return plain
    digest = hashlib.sha256(str(workload).encode()).hexdigest()[:12]
    return f"{plain[: _LONGEST_FOLDER - 13]}-{digest}"


def _saving(facts: dict[str, Any]) -> SaveOptions:
    """Return options as they were recorded; what a later release has added means nothing here."""
    known = {field.name: facts[field.name] for field in fields(SaveOptions) if field.name in facts}
    found = SaveOptions(**known)
    return replace(
        found, mode=Mode(found.mode), application_directories=tuple(map(str, found.application_directories))
    )


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text(text)
    except OSError as fault:
        raise CapsuleError(
            f"what others are to know of the job cannot be written to {path}: {fault.strerror}",
            remedy="make room there, or name another directory by CRIKPY_RUN_RUN_DIR",
        ) from fault
