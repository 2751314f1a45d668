"""Chunks go in and out by the quick client, and by the other one whenever that fails."""

from __future__ import annotations

import logging
import secrets
from dataclasses import replace
from pathlib import Path

import pytest

from crikpy.errors import ObjectNotFoundError, SettingsError, StoreUnavailableError
from crikpy.settings import StoreSettings
from crikpy.store.base import ObjectStore
from crikpy.store.opening import open_store
from tests.fakes.s3_server import S3Server
from tests.store.bad_servers import answering_server, lossy_proxy
from tests.store.conftest import BUCKET
from tests.store.images import MIB, noise

pytestmark = pytest.mark.s3
CHUNK = "plain/default/train/chunks/ab/" + "ab" * 32
RECORD = "plain/default/train/holder.json"
Seen = list[tuple[str, dict[str, str]]]


def store_at(endpoint: str, settings: StoreSettings) -> ObjectStore:
    return open_store(f"s3://{BUCKET}/{secrets.token_hex(8)}", replace(settings, endpoint=endpoint))


def nothing(method: str, number: int) -> str:
    return "nothing"


def clients(seen: Seen) -> list[str]:
    """Return who made each request."""
    return ["boto3" if "boto3" in headers["user-agent"].lower() else "quick" for _, headers in seen]


def test_chunks_go_the_quick_way_and_records_by_boto3(s3_server: S3Server, s3_settings: StoreSettings) -> None:
    seen: Seen = []
    data = noise(MIB)
    with lossy_proxy(s3_server.endpoint, nothing, seen) as url:
        store = store_at(url, s3_settings)
        store.put(CHUNK, data)
        assert store.get(CHUNK) == data
        store.put(RECORD, b"record")
        assert store.get(RECORD) == b"record"
    assert clients(seen) == ["quick", "quick", "boto3", "boto3"]


@pytest.mark.parametrize(("method", "fate"), [("PUT", "answer"), ("GET", "answer"), ("GET", "half")])
def test_what_fails_the_quick_way_goes_by_boto3(
    s3_server: S3Server, s3_settings: StoreSettings, method: str, fate: str
) -> None:
    def loses(this: str, number: int) -> str:
        return fate if this == method and not number else "nothing"

    seen: Seen = []
    data = noise(MIB)
    with lossy_proxy(s3_server.endpoint, loses, seen) as url:
        store = store_at(url, s3_settings)
        store.put(CHUNK, data)
        assert store.get(CHUNK) == data
    assert clients(seen) == (["quick", "boto3", "quick"] if method == "PUT" else ["quick", "quick", "boto3"])


def test_a_way_that_leads_nowhere_is_left_for_a_while(
    s3_server: S3Server, s3_settings: StoreSettings, caplog: pytest.LogCaptureFixture
) -> None:
    def loses_the_quick(method: str, number: int) -> str:
        return "answer" if number % 2 == 0 and number < 16 else "nothing"

    seen: Seen = []
    with lossy_proxy(s3_server.endpoint, loses_the_quick, seen) as url:
        store = store_at(url, s3_settings)
        with caplog.at_level(logging.WARNING):
            for _ in range(10):
                store.put(CHUNK, b"bytes")
    assert clients(seen).count("quick") == 8
    assert clients(seen).count("boto3") == 10
    assert [record.message for record in caplog.records] == ["chunks go by boto3 for a while, which is slower"]


def test_what_is_not_there_says_nothing_against_the_way(s3_server: S3Server, s3_settings: StoreSettings) -> None:
    seen: Seen = []
    with lossy_proxy(s3_server.endpoint, nothing, seen) as url:
        store = store_at(url, s3_settings)
        for _ in range(10):
            with pytest.raises(ObjectNotFoundError):
                store.get(CHUNK)
    assert clients(seen).count("quick") == 10


def test_errors_are_those_of_boto3(s3_settings: StoreSettings) -> None:
    with answering_server(503, "SlowDown") as url, pytest.raises(StoreUnavailableError, match="SlowDown"):
        store_at(url, s3_settings).put(CHUNK, b"bytes")


@pytest.mark.parametrize(("word", "signed"), [("http", True), ("always", True), ("never", False)])
def test_bodies_are_signed_as_the_setting_says(
    s3_server: S3Server, s3_settings: StoreSettings, word: str, signed: bool
) -> None:
    seen: Seen = []
    with lossy_proxy(s3_server.endpoint, nothing, seen) as url:
        store = store_at(url, replace(s3_settings, sign_bodies=word))
        store.put(CHUNK, noise(MIB))
        store.put(RECORD, b"record")
    hashes = [headers["x-amz-content-sha256"] for _, headers in seen]
    assert [value == "UNSIGNED-PAYLOAD" for value in hashes] == [not signed, not signed]


def test_a_word_that_is_none_is_refused(s3_settings: StoreSettings) -> None:
    with pytest.raises(SettingsError, match="SIGN_BODIES"):
        store_at("http://127.0.0.1:1", replace(s3_settings, sign_bodies="sometimes")).get(CHUNK)


def test_credentials_are_those_that_boto3_finds(
    s3_server: S3Server, s3_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profile = tmp_path / "credentials"
    profile.write_text(
        f"[bench]\naws_access_key_id={s3_server.access_key}\naws_secret_access_key={s3_server.secret_key}\n"
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    monkeypatch.setenv("AWS_PROFILE", "bench")
    seen: Seen = []
    with lossy_proxy(s3_server.endpoint, nothing, seen) as url:
        store_at(url, s3_settings).put(CHUNK, noise(MIB))
    assert clients(seen) == ["quick"]
