"""Stores with checkpoints that no job was needed for, and the command line without a process of its own.

What a command says of a checkpoint depends on its manifest alone, so these tests take no CRIU and hardly any time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crikpy import names
from crikpy.cli import main
from crikpy.model.manifest import Manifest, ProcessFact
from crikpy.model.workload import Workload
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.local import LocalStore
from crikpy.store.records import Claim
from tests.cli.machines import Ended
from tests.store.images import MIB, manifest_of, store_images

CLUSTER, NAMESPACE = names.PLAIN_GROUP
OLDER, NEWER = "20250131T120000Z-00000001", "20250131T130000Z-00000002"


class Shelf:
    """A store in a folder, and what is put there."""

    def __init__(self, folder: Path) -> None:
        self.url = str(folder)
        self.store = LocalStore(folder)

    def put(
        self,
        identity: str,
        *,
        name: str = "train",
        images: dict[str, bytes] | None = None,
        processes: Sequence[ProcessFact] = (),
        **changes: Any,
    ) -> Manifest:
        """Put a complete checkpoint there, with changes to its manifest; images share chunks with those before."""
        workload = Workload(cluster=CLUSTER, namespace=NAMESPACE, name=name)
        checkpoints = Checkpoints(self.store, workload)
        _, known = checkpoints.begin(Claim.ours(), identity)
        written = store_images(self.store, workload, images or {}, known=known.chunks)
        manifest = manifest_of(workload, identity, written.images, written.sizes)
        manifest = replace(manifest, job=replace(manifest.job, processes=tuple(processes)), **changes)
        checkpoints.commit(manifest)
        return manifest


def process(
    pid: int, parent: int, command: str, *, anonymous: int = 0, file: int = 0, shared: int = 0
) -> ProcessFact:
    """Return a process with that much memory of each kind, in MiB."""
    return ProcessFact(
        pid=pid,
        parent=parent,
        command=command,
        threads=1,
        resident_bytes=(anonymous + file + shared) * MIB,
        anonymous_bytes=anonymous * MIB,
        file_bytes=file * MIB,
        shared_bytes=shared * MIB,
    )


class Typist:
    """Types command lines at a crikpy within this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], environment: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self.environment = environment

    def __call__(self, *words: str, program: str = "crikpy") -> Ended:
        """Type a command line and return what came of it."""
        self._capsys.readouterr()
        self.environment.setattr("sys.argv", [program, *words])
        with _log_kept():
            status = main.run(list(words), program)
        out, err = self._capsys.readouterr()
        return Ended(status=status, out=out, err=err)


@contextmanager
def _log_kept() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
