"""What an earlier release has stored is read by this one, to the last byte, and can be leaned on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.keys import HeldKeys
from crikpy.store.local import LocalStore
from crikpy.store.recalling import KnownPages
from crikpy.store.sealing import SealedStore
from tests.golden.writing import FIRST, KEY, PLAIN, SEALED, SECOND, THIRD, images, settings
from tests.store.images import load_images, store_images

RELEASES = sorted(path.name for path in Path(__file__).parent.iterdir() if (path / "plain").is_dir())
WORKLOADS = {"plain": PLAIN, "sealed": SEALED}


@pytest.fixture(params=[(release, kind) for release in RELEASES for kind in WORKLOADS], ids="-".join)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ObjectStore, Workload]:
    """A copy of what a release has stored, and one of its workloads."""
    release, kind = request.param
    shutil.copytree(Path(__file__).parent / release, tmp_path / "store")
    store = LocalStore(tmp_path / "store")
    return (SealedStore(store, HeldKeys([KEY])) if kind == "sealed" else store), WORKLOADS[kind]


def test_there_is_something_to_be_read() -> None:
    assert RELEASES


def test_every_byte_comes_back(stored: tuple[ObjectStore, Workload]) -> None:
    store, workload = stored
    for identity, generation in ((FIRST, 1), (THIRD, 3)):
        manifest = Checkpoints(store, workload).manifest(identity)
        assert load_images(store, workload, manifest.job_images, settings=settings()) == images(generation)


def test_records_mean_what_they_meant(stored: tuple[ObjectStore, Workload]) -> None:
    checkpoints = Checkpoints(*stored)
    found = {summary.id: summary for summary in checkpoints.list()}
    assert found.keys() == {FIRST, SECOND, THIRD}
    assert found[FIRST].claim is not None
    quarantine = found[SECOND].quarantine
    assert quarantine is not None
    assert quarantine.reason == "golden"
    newest = checkpoints.newest_resumable()
    assert newest is not None
    assert newest.checkpoint == THIRD


def test_a_new_checkpoint_leans_on_an_old_one(stored: tuple[ObjectStore, Workload]) -> None:
    store, workload = stored
    known = Checkpoints(store, workload).known()
    assert known.base is not None
    pages = KnownPages(store, workload, known.base)
    written = store_images(store, workload, images(4), known=known.chunks, pages=pages, settings=settings())
    assert written.sizes.stored_bytes < 200_000
    assert load_images(store, workload, written.images, settings=settings()) == images(4)
