"""AWS for the sources' tests: one server, emptied before each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.aws import FakeAws


@pytest.fixture(scope="session")
def aws_server() -> Iterator[FakeAws]:
    with FakeAws() as server:
        yield server


@pytest.fixture
def aws(aws_server: FakeAws, monkeypatch: pytest.MonkeyPatch) -> FakeAws:
    aws_server.reset()
    for name, value in aws_server.environment.items():
        monkeypatch.setenv(name, value)
    return aws_server
