"""Stores for the tests of this room: every test that takes `store` runs over a directory and over S3."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from crikpy.model.workload import Workload
from crikpy.settings import StoreSettings, from_env
from crikpy.store.base import ObjectStore
from crikpy.store.opening import open_store
from tests.fakes.s3_server import S3Server

BUCKET = "crikpy-tests"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The one S3 server of a test run, with one bucket."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture
def s3_settings(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> StoreSettings:
    """Settings for the S3 server, whose credentials are in this process's environment."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return replace(from_env(os.environ).store, request_timeout_s=5.0)


@pytest.fixture
def local_store(tmp_path: Path) -> ObjectStore:
    """An empty store in a directory."""
    return open_store(str(tmp_path / "store"), StoreSettings())


@pytest.fixture
def s3_store(s3_settings: StoreSettings) -> Iterator[ObjectStore]:
    """A store of a prefix of its own in S3."""
    store = open_store(f"s3://{BUCKET}/tests/{secrets.token_hex(8)}", s3_settings)
    yield store
    store.close()


@pytest.fixture
def sealed_store(tmp_path: Path) -> ObjectStore:
    """An empty store in a directory, sealed with a key of its own."""
    keys = tmp_path / "keys"
    keys.touch(0o600)
    keys.write_bytes(base64.b64encode(os.urandom(32)))
    return open_store(str(tmp_path / "store"), StoreSettings(key_file=str(keys)))


@pytest.fixture(params=["local", "sealed", pytest.param("s3", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """A store of any kind, ready to be used."""
    found: ObjectStore = request.getfixturevalue(f"{request.param}_store")
    found.check()
    return found


@pytest.fixture
def workload() -> Workload:
    """Whose checkpoints the tests keep."""
    return Workload(cluster="plain", namespace="default", name="train")
