"""Saves a real process for later releases to resume: `python -m tests.golden.saving PROGRAM FOLDER`.

What is golden here is what CRIU and crikpy make of a process, whatever the CPU: so hack/golden runs this on one
that has nothing that another might lack. The job is tests/golden/job.c, in a container, with its program outside
of the checkpoint, as that of an image is, and a file within.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from crikpy.model.workload import Workload
from crikpy.names import EXIT_CHECKPOINTED
from crikpy.settings import Settings, from_env
from crikpy.store.local import LocalStore
from tests.golden.job import Model, Proof
from tests.integration.capsules import JobCapsule
from tests.integration.moving import Bench, Kind
from tests.jobs import proving

WORKLOAD: Final = Workload(cluster="golden", namespace="default", name="job")
_INSIDE: Final = "/golden"
LETTERS: Final = "/golden-letters"
"""The file that the job writes to, on the container's own root."""

WORDS: Final = (f"{_INSIDE}/job", LETTERS)
_STEPS: Final = 1024
"""After so many every page of its memory has changed, and its file has some letters."""

_NEEDED: Final = ("CRIKPY_CRIU_BUNDLE", "CRIKPY_CRIU_LAUNCHER")


def provide(bench: Bench, program: Path, store: Path) -> None:
    """Give a bench the job's program, where the checkpoint expects it, and a store."""
    folder = bench.folder / "program"
    folder.mkdir()
    shutil.copy(program, folder / "job")
    (folder / "job").chmod(0o755)  # as CRIU has seen it, whatever git and umask made of it
    bench.shared_directories = {_INSIDE: folder}
    bench.workload = WORKLOAD
    bench.store = LocalStore(store)


def ask(job: JobCapsule) -> Proof:
    """Have the job say where it is and what its memory holds."""
    job.signal(proving.ASK)
    return Proof.read(job.expect("proved "))


@contextlib.contextmanager
def _bench(settings: Settings) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="crikpy-") as made:
        bench = Bench(Path(made), Kind.CONTAINER, settings)
        try:
            yield bench
        finally:
            bench.end()


def main() -> None:
    """Run the job until all of its memory has changed, and save it."""
    program, folder = map(Path, sys.argv[1:])
    settings = from_env({name: os.environ[name] for name in _NEEDED})
    with _bench(settings) as bench:
        provide(bench, program, folder / "store")
        job = bench.vacant(*WORDS)
        job.start()
        job.expect("ready")
        while (proof := ask(job)).steps < _STEPS:
            pass
        assert Model().proof_at(proof.steps) == proof
        bench.save(job)
        assert job.wait() == EXIT_CHECKPOINTED
    shutil.copy(program, folder / "job")


if __name__ == "__main__":
    main()
