"""Data keys wrapped by KMS: each workload has its own, all nodes find it, and KMS is asked no more than needed.

Against moto's KMS over a real socket, by boto3, through stores as settings open them.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import StringIO
from pathlib import Path

import msgspec
import pytest

from crikpy import log
from crikpy.aio.clock import Deadline
from crikpy.errors import (
    FormatVersionError,
    IntegrityError,
    StoreError,
)
from crikpy.model.workload import Workload
from crikpy.settings import StoreSettings
from crikpy.store.base import ForwardingStore, ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.keyring import Keyrings
from crikpy.store.kms import Kms
from crikpy.store.layout import chunk_key, keyring_key
from crikpy.store.local import LocalStore
from crikpy.store.opening import open_store
from crikpy.store.records import Claim
from crikpy.store.sealing import SealedStore
from tests.fakes.aws import FakeAws
from tests.fakes.kms import MAKE, UNWRAP, FakeKms
from tests.store.conftest import ALIAS, BUCKET, Opened
from tests.store.images import MIB, load_images, manifest_of, noise, store_images

WORKLOAD = Workload(cluster="plain", namespace="default", name="train")
OTHER = Workload(cluster="plain", namespace="default", name="other")
ID = "20250131T120000Z-00000000"
CHUNK, THERE = chunk_key(WORKLOAD, "ab" * 32), chunk_key(OTHER, "ab" * 32)


def ring(bare: ObjectStore, workload: Workload = WORKLOAD) -> list[dict[str, str]]:
    """Return the keys that a workload's keyring lists."""
    keys: list[dict[str, str]] = json.loads(bytes(bare.get(keyring_key(workload))))["keys"]
    return keys


def write_ring(bare: ObjectStore, keys: list[dict[str, str]], workload: Workload = WORKLOAD) -> None:
    """Write a keyring."""
    bare.put(keyring_key(workload), json.dumps({"format": 1, "keys": keys}).encode())


def test_a_checkpoint_of_one_node_comes_back_on_another_and_nothing_of_it_shows(
    opened: Opened, bare: ObjectStore
) -> None:
    images = {"pages-1.img": b"a secret of the job, " * 100_000, "core-1.img": noise(MIB)}
    here = opened()
    _, known = Checkpoints(here, WORKLOAD).begin(Claim.ours())
    written = store_images(here, WORKLOAD, images, known=known.chunks)
    Checkpoints(here, WORKLOAD).commit(manifest_of(WORKLOAD, ID, written.images))
    there = opened()
    found = Checkpoints(there, WORKLOAD).newest_resumable()
    assert found is not None
    assert load_images(there, WORKLOAD, found.images) == images
    lying = b"".join(bytes(bare.get(info.key)) for info in bare.list(""))
    assert b"a secret" not in lying
    assert images["core-1.img"][:64] not in lying


def test_kms_is_asked_once_for_each_process_and_key(opened: Opened, kms: FakeKms) -> None:
    here, there = opened(), opened()
    for number in range(4):
        here.make_ready(WORKLOAD, Deadline.after(5))
        here.put(chunk_key(WORKLOAD, f"{number:064x}"), b"bytes")
    assert (len(kms.asked(MAKE)), len(kms.asked(UNWRAP))) == (1, 0)
    with ThreadPoolExecutor(8) as readers:
        names = [chunk_key(WORKLOAD, f"{number % 4:064x}") for number in range(64)]
        assert set(map(bytes, readers.map(there.get, names))) == {b"bytes"}
    there.put(CHUNK, b"more")
    assert (len(kms.asked(MAKE)), len(kms.asked(UNWRAP))) == (1, 1)


def test_each_workload_has_a_key_of_its_own(opened: Opened, bare: ObjectStore) -> None:
    store = opened()
    store.put(CHUNK, b"bytes")
    store.put(THERE, b"bytes")
    (here,), (there,) = ring(bare), ring(bare, OTHER)
    assert here["id"] != there["id"]
    assert here["wrapped"] != there["wrapped"]


def test_a_wrapped_key_is_bound_to_its_workload_and_store(opened: Opened, bare: ObjectStore, kms: FakeKms) -> None:
    opened().put(CHUNK, b"bytes")
    (asked,) = kms.asked(MAKE)
    assert asked.context == {"crikpy-store": bare.url, "crikpy-workload": "plain/default/train"}
    write_ring(bare, ring(bare), OTHER)
    bare.put(THERE, bare.get(CHUNK))
    with pytest.raises(IntegrityError, match="no KMS key of ours opens"):
        opened().get(THERE)
    copied = opened("copy")
    for key in (keyring_key(WORKLOAD), CHUNK):
        opened("copy", kms_key="").put(key, bare.get(key))
    with pytest.raises(IntegrityError, match="no KMS key of ours opens"):
        copied.get(CHUNK)


def test_a_copied_keyring_keeps_nobody_from_saving(opened: Opened, bare: ObjectStore) -> None:
    opened().put(THERE, b"bytes")
    write_ring(bare, ring(bare, OTHER))
    opened().put(CHUNK, b"saved")
    assert opened().get(CHUNK) == b"saved"
    assert len(ring(bare)) == 2


def test_nothing_is_sealed_with_a_key_that_is_listed_under_another_name(opened: Opened, bare: ObjectStore) -> None:
    opened().put(CHUNK, b"bytes")
    write_ring(bare, [ring(bare)[0] | {"id": "00" * 8}])
    opened().put(CHUNK, b"found again")
    assert opened().get(CHUNK) == b"found again"


def test_of_many_that_make_a_key_at_once_all_use_the_same(opened: Opened, bare: ObjectStore) -> None:
    stores = [opened() for _ in range(8)]
    at_once = threading.Barrier(len(stores))

    def write(number: int) -> None:
        at_once.wait(30)
        stores[number].put(chunk_key(WORKLOAD, f"{number:064x}"), b"bytes")

    with ThreadPoolExecutor(len(stores)) as writers:
        list(writers.map(write, range(len(stores))))
    assert len(ring(bare)) == 1
    reader = opened()
    assert all(reader.get(chunk_key(WORKLOAD, f"{number:064x}")) == b"bytes" for number in range(len(stores)))


def test_when_the_kms_key_changes_new_objects_get_a_new_key_and_old_ones_still_open(
    opened: Opened, bare: ObjectStore, kms: FakeKms
) -> None:
    first, second = kms.make_key(), kms.make_key()
    opened(kms_key=first).put(CHUNK, b"old")
    both = opened(kms_key=f"{second}, {first}")
    newer = chunk_key(WORKLOAD, "cd" * 32)
    both.put(newer, b"new")
    assert (both.get(CHUNK), both.get(newer)) == (b"old", b"new")
    assert [each["kms"] for each in ring(bare)] == [second, first]
    assert opened(kms_key=second).get(newer) == b"new"
    with pytest.raises(IntegrityError) as caught:
        opened(kms_key=second).get(CHUNK)
    assert "CRIKPY_STORE_KMS_KEY" in caught.value.remedy


def test_an_alias_that_leads_to_another_kms_key_is_such_a_change(
    opened: Opened, bare: ObjectStore, kms: FakeKms
) -> None:
    opened().put(CHUNK, b"old")
    (before,) = ring(bare)
    now = kms.make_key(ALIAS)
    store = opened(kms_key=f"{ALIAS},{before['kms']}")
    store.put(chunk_key(WORKLOAD, "cd" * 32), b"new")
    assert [each["kms"] for each in ring(bare)] == [now, before["kms"]]
    assert store.get(CHUNK) == b"old"


def test_nodes_with_different_kms_keys_do_not_make_keys_in_turn(
    opened: Opened, bare: ObjectStore, kms: FakeKms
) -> None:
    first, second = kms.make_key(), kms.make_key()
    for _ in range(3):
        opened(kms_key=first).make_ready(WORKLOAD, Deadline.after(5))
        opened(kms_key=f"{second},{first}").make_ready(WORKLOAD, Deadline.after(5))
    assert [each["kms"] for each in ring(bare)] == [second, first]


def test_a_data_key_past_its_time_opens_and_seals_no_more(opened: Opened, bare: ObjectStore) -> None:
    opened().put(CHUNK, b"old")
    (old,) = ring(bare)
    write_ring(bare, [old | {"made": "2020-01-01T00:00:00Z"}])
    store = opened()
    newer = chunk_key(WORKLOAD, "cd" * 32)
    store.put(newer, b"new")
    assert (store.get(CHUNK), store.get(newer)) == (b"old", b"new")
    assert [each["id"] for each in ring(bare)][1:] == [old["id"]]
    assert bytes(bare.get(newer))[4:12].hex() == ring(bare)[0]["id"]


def test_a_data_key_past_its_time_serves_as_long_as_kms_is_away(
    opened: Opened, bare: ObjectStore, kms: FakeKms
) -> None:
    store = opened()
    store.put(CHUNK, b"old")
    write_ring(bare, [ring(bare)[0] | {"made": "2020-01-01T00:00:00Z"}])
    kms.refuse("KMSInternalException", status=500)
    store.make_ready(WORKLOAD, Deadline.after(5))
    store.put(CHUNK, b"new")
    assert len(ring(bare)) == 1
    kms.permit()
    assert opened().get(CHUNK) == b"new"


def test_a_key_that_is_not_listed_any_more_seals_nothing_new(opened: Opened, bare: ObjectStore) -> None:
    store = opened()
    store.put(CHUNK, b"lost")
    bare.delete(keyring_key(WORKLOAD))
    store.make_ready(WORKLOAD, Deadline.after(5))
    store.put(CHUNK, b"kept")
    assert opened().get(CHUNK) == b"kept"


def test_with_a_key_at_hand_kms_may_be_away(opened: Opened, kms: FakeKms) -> None:
    store = opened()
    store.make_ready(WORKLOAD, Deadline.after(5))
    kms.refuse("KMSInternalException", status=500)
    _, _ = Checkpoints(store, WORKLOAD).begin(Claim.ours())
    store.put(CHUNK, b"bytes")
    assert store.get(CHUNK) == b"bytes"


def test_an_object_sealed_with_a_key_that_is_not_listed_is_not_believed(opened: Opened, bare: ObjectStore) -> None:
    store = opened()
    store.put(CHUNK, b"bytes")
    store.put(THERE, b"bytes")
    bare.put(CHUNK, bare.get(THERE))
    with pytest.raises(IntegrityError, match="does not list"):
        opened().get(CHUNK)


@pytest.mark.parametrize(
    ("change", "meaning"),
    [
        (lambda ring: ring[:20], IntegrityError),
        (lambda ring: b"[]", IntegrityError),
        (lambda ring: ring.replace(b'"wrapped"', b'"other"'), IntegrityError),
        (lambda ring: ring.replace(b'"format":1', b'"format":2'), FormatVersionError),
        (lambda ring: msgspec.json.encode(msgspec.json.decode(ring) | {"keys": []}), IntegrityError),
        (lambda ring: _with_wrapped(ring, ""), IntegrityError),
        (lambda ring: _with_wrapped(ring, "AAAA"), IntegrityError),
        (lambda ring: _with_wrapped(ring, "AAAA" * 3000), IntegrityError),
    ],
    ids=["cut", "list", "field", "format", "empty", "no-bytes", "bytes", "too-many-bytes"],
)
def test_a_damaged_keyring_opens_nothing(
    opened: Opened, bare: ObjectStore, change: Callable[[bytes], bytes], meaning: type[StoreError]
) -> None:
    opened().put(CHUNK, b"bytes")
    bare.put(keyring_key(WORKLOAD), change(bytes(bare.get(keyring_key(WORKLOAD)))))
    with pytest.raises(meaning):
        opened().get(CHUNK)


def _with_wrapped(ring: bytes, text: str) -> bytes:
    keys = json.loads(ring)["keys"]
    return json.dumps({"format": 1, "keys": [keys[0] | {"wrapped": text}]}).encode()


def test_what_a_later_release_adds_to_a_keyring_is_passed_over(opened: Opened, bare: ObjectStore) -> None:
    opened().put(CHUNK, b"bytes")
    write_ring(bare, [ring(bare)[0] | {"more": "later"}])
    assert opened().get(CHUNK) == b"bytes"


def test_no_log_shows_a_data_key(opened: Opened) -> None:
    told = StringIO()
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        log.set_up(as_json=True, level=logging.DEBUG, stream=told)
        opened().put(CHUNK, b"bytes")
        opened().get(CHUNK)
    finally:
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)
    assert "a data key was made" in told.getvalue()
    assert "Plaintext" not in told.getvalue()


class Late(ForwardingStore):
    """A store in which somebody else is quicker, for a while, whenever a keyring is written."""

    def __init__(self, inner: ObjectStore, before: Callable[[], None], times: int) -> None:
        super().__init__(inner)
        self._before = before
        self._left = times

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        self._act()
        return super().put_if_absent(key, data)

    def replace(self, key: str, data: bytes | memoryview, tag: str) -> str | None:
        self._act()
        return super().replace(key, data, tag)

    def _act(self) -> None:
        if self._left > 0:
            self._left -= 1
            self._before()


@pytest.mark.parametrize("first", ["none", "old"])
def test_who_comes_second_takes_the_key_of_who_came_first(
    opened: Opened, bare: ObjectStore, tmp_path: Path, first: str
) -> None:
    if first == "old":
        opened().put(CHUNK, b"old")
        write_ring(bare, [ring(bare)[0] | {"made": "2020-01-01T00:00:00Z"}])
    other = opened()
    newer = chunk_key(WORKLOAD, "cd" * 32)
    inner = Late(LocalStore(tmp_path / "store"), lambda: other.put(newer, b"first"), 1)
    settings = StoreSettings(kms_key=ALIAS)
    store = SealedStore(inner, Keyrings(inner, Kms(settings), settings))
    store.put(CHUNK, b"bytes")
    assert len(ring(bare)) == (1 if first == "none" else 2)
    assert bytes(bare.get(CHUNK))[4:12].hex() == ring(bare)[0]["id"]
    reader = opened()
    assert (reader.get(CHUNK), reader.get(newer)) == (b"bytes", b"first")


def test_a_listing_shows_manifests_that_cannot_be_opened_and_the_next_save_leans_on_none(
    opened: Opened, bare: ObjectStore, kms: FakeKms
) -> None:
    gone, today = kms.make_key(), kms.make_key()
    Checkpoints(opened(kms_key=gone), WORKLOAD).commit(manifest_of(WORKLOAD, ID))
    checkpoints = Checkpoints(opened(kms_key=today), WORKLOAD)
    (found,) = checkpoints.list()
    assert "no KMS key of ours opens" in found.fault
    assert checkpoints.begin(Claim.ours())[1].base is None


@pytest.mark.s3
def test_a_keyring_lies_in_s3_as_anywhere(
    kms: FakeKms, aws: FakeAws, s3_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", aws.endpoint)
    first, second = kms.make_key(), kms.make_key()
    url, newer = f"s3://{BUCKET}/{secrets.token_hex(8)}", chunk_key(WORKLOAD, "cd" * 32)
    open_store(url, replace(s3_settings, kms_key=first)).put(CHUNK, b"old")
    store = open_store(url, replace(s3_settings, kms_key=f"{second},{first}"))
    store.put(newer, b"new")
    reader = open_store(url, replace(s3_settings, kms_key=f"{second},{first}"))
    assert (bytes(reader.get(CHUNK)), bytes(reader.get(newer))) == (b"old", b"new")
    assert {asked.context["crikpy-store"] for asked in kms.asked(MAKE)} == {url}
    assert len(ring(open_store(url, s3_settings))) == 2
