"""The page of the made-up cluster, as a server, for the tests of one module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.kube import FakeKube
from tests.fakes.kube_people import Somebody
from tests.page.serving import serving
from tests.page.story import Teller, tell

OPERATOR, RESEARCHER, HALF = "t-operator", "t-researcher", "t-half"


@pytest.fixture
async def kube() -> AsyncIterator[FakeKube]:
    async with FakeKube().serving() as kube:
        kube.people = {
            OPERATOR: Somebody(name="operator"),
            RESEARCHER: Somebody(name="researcher", namespaces=("research",)),
            HALF: Somebody(name="half", kinds=("checkpoints", "pods")),
        }
        yield kube


@pytest.fixture
async def story(kube: FakeKube) -> Teller:
    return tell(kube)


@pytest.fixture
async def url(kube: FakeKube, story: Teller, tmp_path: Path) -> AsyncIterator[str]:
    async with serving(kube, tmp_path) as url:
        yield url
