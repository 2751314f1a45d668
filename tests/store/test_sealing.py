"""Who has the bucket but not the keys learns nothing of a job, and cannot pass anything off as a checkpoint."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.errors import FormatVersionError, IntegrityError, ObjectNotFoundError, SettingsError
from crikpy.model.workload import Workload
from crikpy.settings import StoreSettings
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.keys import HeldKeys, Key, read_keys
from crikpy.store.layout import chunk_key, manifest_key
from crikpy.store.local import LocalStore
from crikpy.store.opening import open_store
from crikpy.store.records import Claim
from crikpy.store.sealing import OVERHEAD_BYTES, SealedStore
from tests.store.images import MIB, load_images, manifest_of, noise, store_images

WORKLOAD = Workload(cluster="plain", namespace="default", name="train")
OTHER = Workload(cluster="plain", namespace="default", name="other")
ID = "20250131T120000Z-00000000"
CHUNK = chunk_key(WORKLOAD, "ab" * 32)
KEY, SECOND = Key.of(bytes(range(32))), Key.of(bytes(range(1, 33)))


@pytest.fixture
def bare(tmp_path: Path) -> ObjectStore:
    """The store as who has only the bucket sees it."""
    store = LocalStore(tmp_path / "store")
    store.check()
    return store


def sealed(bare: ObjectStore, *keys: Key) -> SealedStore:
    """Return the same store, sealed."""
    return SealedStore(bare, HeldKeys(keys or (KEY,)))


def key_file(folder: Path, *lines: str) -> str:
    """Write a file of keys."""
    path = folder / "keys"
    path.write_text("\n".join(lines))
    return str(path)


def test_a_checkpoint_comes_back_and_nothing_of_it_shows(bare: ObjectStore) -> None:
    store = sealed(bare)
    images = {"pages-1.img": b"a secret of the job, " * 100_000, "core-1.img": noise(MIB)}
    written = store_images(store, WORKLOAD, images)
    Checkpoints(store, WORKLOAD).commit(manifest_of(WORKLOAD, ID, written.images))
    found = Checkpoints(store, WORKLOAD).newest_resumable()
    assert found is not None
    assert load_images(store, WORKLOAD, found.images) == images
    lying = b"".join(bytes(bare.get(info.key)) for info in bare.list(""))
    assert b"a secret" not in lying
    assert images["core-1.img"][:64] not in lying
    assert b"pages-1" not in lying


def test_a_manifest_of_somebody_without_the_key_is_not_believed(bare: ObjectStore) -> None:
    forged = manifest_of(WORKLOAD, ID)
    Checkpoints(bare, WORKLOAD).commit(forged)
    Checkpoints(sealed(bare, SECOND), OTHER).commit(manifest_of(OTHER, ID))
    with pytest.raises(IntegrityError, match="is not sealed"):
        Checkpoints(sealed(bare), WORKLOAD).newest_resumable()
    with pytest.raises(IntegrityError, match="a key that is not ours"):
        Checkpoints(sealed(bare), OTHER).newest_resumable()


@pytest.mark.parametrize("kind", ["chunk", "manifest"])
def test_what_was_sealed_for_one_place_is_nothing_in_another(bare: ObjectStore, kind: str) -> None:
    store = sealed(bare)
    here, there = (
        (CHUNK, chunk_key(OTHER, "ab" * 32))
        if kind == "chunk"
        else (manifest_key(WORKLOAD, ID), manifest_key(OTHER, ID))
    )
    store.put(here, b"bytes")
    bare.put(there, bare.get(here))
    assert store.get(here) == b"bytes"
    with pytest.raises(IntegrityError, match="sealed for another place"):
        store.get(there)


@given(st.binary(max_size=200), st.data())
def test_whatever_is_changed_in_a_sealed_object_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, plain: bytes, data: st.DataObject
) -> None:
    bare = LocalStore(tmp_path_factory.mktemp("store"))
    store = sealed(bare)
    store.put(CHUNK, plain)
    assert store.get(CHUNK) == plain
    lying = bytearray(bare.get(CHUNK))
    assert len(lying) == len(plain) + OVERHEAD_BYTES
    where = data.draw(st.integers(0, len(lying) - 1))
    if data.draw(st.booleans()):
        lying[where] ^= data.draw(st.integers(1, 255))
    else:
        del lying[where:]
    bare.put(CHUNK, bytes(lying))
    with pytest.raises((IntegrityError, FormatVersionError)):
        store.get(CHUNK)


def test_a_key_does_not_tell_its_secret() -> None:
    assert repr(bytes(range(32)))[2:20] not in repr(KEY)
    assert "_secret" not in repr(KEY)


def test_the_same_bytes_are_never_sealed_alike(bare: ObjectStore) -> None:
    store = sealed(bare)
    store.put(CHUNK, b"bytes")
    first = bytes(bare.get(CHUNK))
    store.put(CHUNK, b"bytes")
    assert bytes(bare.get(CHUNK)) != first


def test_keys_can_be_changed_and_old_ones_still_open(bare: ObjectStore) -> None:
    sealed(bare, KEY).put(CHUNK, b"old")
    both = sealed(bare, SECOND, KEY)
    assert both.get(CHUNK) == b"old"
    both.put(CHUNK, b"new")
    assert sealed(bare, SECOND).get(CHUNK) == b"new"


def test_a_commit_of_the_same_manifest_is_the_same_commit(bare: ObjectStore) -> None:
    checkpoints = Checkpoints(sealed(bare), WORKLOAD)
    checkpoints.commit(manifest_of(WORKLOAD, ID))
    checkpoints.commit(manifest_of(WORKLOAD, ID))


def test_records_can_be_read_without_keys(bare: ObjectStore) -> None:
    store = sealed(bare)
    Checkpoints(store, WORKLOAD).commit(manifest_of(WORKLOAD, ID))
    Checkpoints(store, WORKLOAD).claim(ID, Claim.ours())
    Checkpoints(store, WORKLOAD).quarantine(ID, "why")
    summary = Checkpoints(bare, WORKLOAD).summary(ID)
    assert summary.claim is not None
    assert summary.quarantine is not None


def test_without_keys_it_is_said_that_they_are_missing(bare: ObjectStore) -> None:
    store = sealed(bare)
    written = store_images(store, WORKLOAD, {"pages-1.img": noise(1000)})
    Checkpoints(store, WORKLOAD).commit(manifest_of(WORKLOAD, ID, written.images))
    with pytest.raises(FormatVersionError, match="the manifest is sealed") as caught:
        Checkpoints(bare, WORKLOAD).newest_resumable()
    assert "CRIKPY_STORE_KEY_FILE" in caught.value.remedy
    with pytest.raises(FormatVersionError, match="is sealed"):
        load_images(bare, WORKLOAD, written.images)


def test_what_is_absent_is_absent(bare: ObjectStore) -> None:
    with pytest.raises(ObjectNotFoundError):
        sealed(bare).get(CHUNK)


def test_a_store_is_opened_with_the_keys_of_a_file(tmp_path: Path) -> None:
    lines = [base64.b64encode(os.urandom(32)).decode() for _ in range(2)]
    url = str(tmp_path / "store")
    first = open_store(url, StoreSettings(key_file=key_file(tmp_path, "# of spring", lines[0], "")))
    first.put(CHUNK, b"bytes")
    assert open_store(url, StoreSettings(key_file=key_file(tmp_path, *reversed(lines)))).get(CHUNK) == b"bytes"
    assert bytes(open_store(url, StoreSettings()).get(CHUNK)) != b"bytes"


@pytest.mark.parametrize(
    "lines",
    [[], ["# none"], ["not base64!"], [base64.b64encode(bytes(16)).decode()], ["\u00e4"]],
    ids=["empty", "comment", "garbage", "short", "letter"],
)
def test_a_file_without_good_keys_is_refused(tmp_path: Path, lines: Sequence[str]) -> None:
    path = Path(key_file(tmp_path, *lines))
    with pytest.raises(SettingsError) as caught:
        read_keys(path)
    assert "openssl rand -base64 32" in caught.value.remedy


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_keys(tmp_path / "none")
