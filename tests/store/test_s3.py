"""What only S3 can do wrong: credentials, permissions, buckets, lost answers, dead servers."""

from __future__ import annotations

import os
import secrets
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from crikpy.aio.clock import Deadline
from crikpy.errors import (
    CrikpyError,
    NoSuchBucketError,
    SettingsError,
    StoreError,
    StoreForbiddenError,
    StoreFullError,
    StoreUnavailableError,
    UsageError,
)
from crikpy.model.workload import Workload
from crikpy.settings import StoreSettings, from_env
from crikpy.store.base import ObjectStore
from crikpy.store.opening import open_store
from crikpy.store.writing import ChunkWriter
from tests.chaos.s3 import Fate, Trouble, Troubles, What, troubled
from tests.fakes.s3_server import S3Server
from tests.store.bad_servers import answering_server, careless_server, lossy_proxy
from tests.store.conftest import BUCKET
from tests.store.images import MIB, SMALL, noise

pytestmark = pytest.mark.s3
KEY = "plain/default/train/holder.json"


def store_at(endpoint: str, settings: StoreSettings) -> ObjectStore:
    return open_store(f"s3://{BUCKET}/{secrets.token_hex(8)}", replace(settings, endpoint=endpoint))


def test_a_wrong_secret_key_is_forbidden(
    s3_server: S3Server, s3_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong" + s3_server.secret_key)
    with pytest.raises(StoreForbiddenError, match="credentials"):
        store_at(s3_server.endpoint, s3_settings).check()


def test_an_unknown_key_is_forbidden(
    s3_server: S3Server, s3_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKUNKNOWN")
    with pytest.raises(StoreForbiddenError, match="credentials"):
        store_at(s3_server.endpoint, s3_settings).check()


def test_no_credentials_at_all_are_forbidden(
    s3_server: S3Server, s3_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreForbiddenError, match="no credentials"):
        store_at(s3_server.endpoint, s3_settings).check()


def test_a_reader_may_read_and_list_but_not_write(
    s3_server: S3Server, s3_store: ObjectStore, s3_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_store.put(KEY, b"bytes")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.reader_access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.reader_secret_key)
    reader = open_store(s3_store.url, s3_settings)
    assert reader.get(KEY) == b"bytes"
    assert [info.key for info in reader.list("")] == [KEY]
    for act in (reader.check, lambda: reader.put(KEY, b"other"), lambda: reader.delete(KEY)):
        with pytest.raises(StoreForbiddenError):
            act()
    assert s3_store.get(KEY) == b"bytes"


def test_a_missing_bucket_is_named(s3_settings: StoreSettings) -> None:
    store = open_store("s3://no-such-bucket/prefix", s3_settings)
    for act in (store.check, lambda: store.put(KEY, b""), lambda: list(store.list(""))):
        with pytest.raises(NoSuchBucketError, match="no-such-bucket"):
            act()


def test_a_server_that_nobody_runs_is_unavailable(s3_settings: StoreSettings) -> None:
    with pytest.raises(StoreUnavailableError):
        store_at("http://127.0.0.1:1", s3_settings).check()


def test_a_server_that_ignores_conditions_is_refused(s3_settings: StoreSettings) -> None:
    with careless_server() as url, pytest.raises(StoreError, match="ignores the conditions"):
        store_at(url, s3_settings).check()


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AccessDenied", StoreForbiddenError),
        (400, "ExpiredToken", StoreUnavailableError),
        (403, "RequestTimeTooSkewed", StoreUnavailableError),
        (403, "QuotaExceeded", StoreFullError),
        (507, "InsufficientStorage", StoreFullError),
        (503, "SlowDown", StoreUnavailableError),
        (500, "InternalError", StoreUnavailableError),
        (400, "AuthorizationHeaderMalformed", StoreError),
        (400, "SomethingElse", StoreError),
    ],
)
def test_answers_become_errors_of_our_own(
    status: int, code: str, expected: type[CrikpyError], s3_settings: StoreSettings
) -> None:
    with answering_server(status, code) as url, pytest.raises(StoreError) as raised:
        store_at(url, s3_settings).put(KEY, b"")
    assert type(raised.value) is expected
    assert code in str(raised.value)


def test_a_lost_answer_to_a_conditional_write_is_found_out(
    s3_server: S3Server, s3_settings: StoreSettings
) -> None:
    def loses(method: str, number: int) -> str:
        return "answer" if method == "PUT" and number == 0 else "nothing"

    with lossy_proxy(s3_server.endpoint, loses) as url:
        store = store_at(url, s3_settings)
        assert store.put_if_absent(KEY, b"ours")
        assert not store.put_if_absent(KEY, b"theirs")
        assert store.get(KEY) == b"ours"


def test_a_lost_answer_is_not_taken_for_ours_when_another_was_first(
    s3_server: S3Server, s3_settings: StoreSettings
) -> None:
    def loses(method: str, number: int) -> str:
        return "answer" if method == "PUT" and number == 1 else "nothing"

    with lossy_proxy(s3_server.endpoint, loses) as url:
        store = store_at(url, s3_settings)
        store.put(KEY, b"theirs")
        assert not store.put_if_absent(KEY, b"ours")


def test_a_lost_answer_to_a_replacement_is_found_out(s3_server: S3Server, s3_settings: StoreSettings) -> None:
    def loses(method: str, number: int) -> str:
        return "answer" if method == "PUT" and number == 1 else "nothing"

    with lossy_proxy(s3_server.endpoint, loses) as url:
        store = store_at(url, s3_settings)
        store.put(KEY, b"one")
        _, tag = store.get_tagged(KEY)
        newer = store.replace(KEY, b"two", tag)
        assert newer is not None
        assert store.get_tagged(KEY) == (b"two", newer)


def test_a_request_that_was_signed_with_a_wrong_time_is_signed_anew(
    s3_server: S3Server, s3_settings: StoreSettings
) -> None:
    troubles = Troubles()
    with troubled(s3_server.endpoint, troubles) as url:
        store = store_at(url, s3_settings)
        for method, act in (("PUT", lambda: store.put_if_absent(KEY, b"ours")), ("GET", lambda: store.get(KEY))):
            troubles.begin(Trouble(what=What.OTHER, method=method, fate=Fate.SKEWED, times=2))
            assert act()
            assert troubles.met == 2
        store.close()


def test_a_body_that_breaks_off_is_asked_for_again(s3_server: S3Server, s3_settings: StoreSettings) -> None:
    def loses(method: str, number: int) -> str:
        return "half" if method == "GET" and number < 2 else "nothing"

    with lossy_proxy(s3_server.endpoint, loses) as url:
        store = store_at(url, s3_settings)
        data = noise(MIB)
        store.put(KEY, data)
        assert store.get(KEY) == data


def test_a_body_that_always_breaks_off_is_unavailable(s3_server: S3Server, s3_settings: StoreSettings) -> None:
    def loses(method: str, number: int) -> str:
        return "half" if method == "GET" else "nothing"

    with lossy_proxy(s3_server.endpoint, loses) as url:
        store = store_at(url, s3_settings)
        store.put(KEY, noise(MIB))
        with pytest.raises(StoreUnavailableError):
            store.get(KEY)


@pytest.mark.parametrize("url", ["s3://UPPER_CASE!/x", "s3://a/x"])
def test_a_bucket_that_cannot_be_is_refused(url: str, s3_settings: StoreSettings) -> None:
    with pytest.raises((UsageError, NoSuchBucketError)):
        open_store(url, s3_settings).check()


def test_an_endpoint_that_is_no_url_is_refused(s3_settings: StoreSettings) -> None:
    with pytest.raises(SettingsError, match="CRIKPY_STORE_ENDPOINT"):
        store_at("not a url", s3_settings).check()


def test_a_server_that_dies_during_an_upload_frees_whoever_writes(
    tmp_path: Path, workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    with S3Server(tmp_path) as server:
        server.create_bucket(BUCKET)
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        store = open_store(f"s3://{BUCKET}/x", replace(from_env(os.environ).store, request_timeout_s=5.0))
        data, deadline = noise(8 * MIB), Deadline.after(60)
        with ChunkWriter(store, workload, settings=SMALL, known=(), deadline=deadline) as writer:
            image = writer.open("pages-1.img")
            killer = threading.Timer(0.5, server.kill)
            killer.start()
            with pytest.raises(StoreUnavailableError):
                for number in range(10**6):
                    memory = image.buffer()
                    memory[:] = data[: len(memory)]
                    memory[:8] = number.to_bytes(8, "little")
                    image.advance(len(memory))
            killer.join()
            assert not deadline.expired()
