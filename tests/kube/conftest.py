"""A fake API server and a client of it, one for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crikpy.kube.client import KubeClient
from tests.fakes.kube import FakeKube


@pytest.fixture
async def kube() -> AsyncIterator[FakeKube]:
    async with FakeKube().serving() as server:
        yield server


@pytest.fixture
async def api(kube: FakeKube, tmp_path: Path) -> AsyncIterator[KubeClient]:
    async with await KubeClient.connect(kube.settings(tmp_path)) as client:
        yield client
