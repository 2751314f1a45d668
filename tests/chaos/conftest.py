"""A bench whose store is a real S3 server, reached by one that makes trouble."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from crikpy.settings import StoreSettings
from crikpy.store.opening import open_store
from tests.chaos import recording
from tests.chaos.recording import Record
from tests.chaos.s3 import Troubles, troubled
from tests.chaos.subject import Subject
from tests.cli.conftest import machine, other
from tests.fakes.s3_server import S3Server
from tests.integration.conftest import bench, folder, plain_bench, settings
from tests.integration.moving import Bench
from tests.store.conftest import s3_server, s3_settings

__all__ = ["bench", "folder", "machine", "other", "plain_bench", "s3_server", "s3_settings", "settings"]

REQUEST_S = 1.5
TRIALS_A_BUCKET = 40


@pytest.fixture(scope="session")
def lend_bucket(s3_server: S3Server) -> Callable[[], str]:
    """Lends each trial a bucket, whose room on the disk comes back after some: an hour of them would fill it."""
    trials = itertools.count()

    def lend() -> str:
        number, turn = divmod(next(trials), TRIALS_A_BUCKET)
        if turn == 0:
            s3_server.create_bucket(f"chaos-{number}")
            if number > 0:
                s3_server.remove_bucket(f"chaos-{number - 1}")
        return f"chaos-{number}"

    return lend


@pytest.fixture
def subject(
    plain_bench: Bench, s3_server: S3Server, s3_settings: StoreSettings, lend_bucket: Callable[[], str]
) -> Iterator[Subject]:
    """A bench, its store as it is, and the same store with trouble."""
    url = f"s3://{lend_bucket()}/{secrets.token_hex(8)}"
    troubles = Troubles()
    with troubled(s3_server.endpoint, troubles) as proxy:
        sound = open_store(url, s3_settings)
        shaky = open_store(url, replace(s3_settings, endpoint=proxy, request_timeout_s=REQUEST_S))
        plain_bench.store = sound
        try:
            yield Subject(plain_bench, shaky, troubles)
        finally:
            troubles.end()
            shaky.close()
            sound.close()


@pytest.fixture
def local(plain_bench: Bench) -> Subject:
    """The same bench over a directory."""
    return Subject(plain_bench, plain_bench.store, Troubles())


@pytest.fixture
def record() -> Record:
    """Write down what was observed."""
    return recording.record
