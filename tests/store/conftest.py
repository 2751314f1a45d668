"""Stores for the tests of this room: every test that takes `store` runs over a directory and over S3."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crikpy.model.workload import Workload
from crikpy.settings import StoreSettings, from_env
from crikpy.store.base import ObjectStore
from crikpy.store.opening import open_store
from tests.fakes.aws import FakeAws
from tests.fakes.kms import FakeKms
from tests.fakes.s3_server import S3Server

BUCKET = "crikpy-tests"
ALIAS = "alias/crikpy"
Opened = Callable[..., ObjectStore]


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


@pytest.fixture(scope="session")
def aws() -> Iterator[FakeAws]:
    """AWS, apart from S3."""
    with FakeAws() as server:
        yield server


@pytest.fixture
def kms(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> FakeKms:
    """KMS with one key, which has an alias, and this process's AWS."""
    aws.reset()
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    made = FakeKms(aws)
    made.make_key(ALIAS)
    return made


@pytest.fixture
def opened(tmp_path: Path, kms: FakeKms) -> Opened:
    """Opens one and the same store, as a process of its own each time."""

    def open_it(folder: str = "store", **settings: Any) -> ObjectStore:
        given = {"kms_key": ALIAS, "request_timeout_s": 2.0, **settings}
        return open_store(str(tmp_path / folder), StoreSettings(**given))

    open_store(str(tmp_path / "store"), StoreSettings()).check()
    return open_it


@pytest.fixture
def bare(opened: Opened) -> ObjectStore:
    """The same store as who has only the bucket sees it."""
    return opened(kms_key="")
