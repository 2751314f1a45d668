"""One cluster and one installation of crikpy for all end-to-end tests of a run."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e.aws import AwsNews
from tests.e2e.cluster import Cluster, Notices, find_cluster
from tests.e2e.installing import Installation
from tests.e2e.pods import Namespace, namespace

INSTALLATION = pytest.StashKey[Installation]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Take crikpy off the cluster when nobody needs it any more."""
    items.sort(key=lambda item: item.path.name == "test_removal.py" and item.path.parent.name == "e2e")


@pytest.fixture(scope="session", autouse=True)
def clean_end() -> Iterator[None]:
    """Have a SIGTERM to the tests end them as Ctrl-C does, so that nothing on the cluster outlives them."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster, or a skip that says what is missing."""
    return find_cluster()


@pytest.fixture(scope="session")
def installation(
    request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """Install crikpy, and remove it in the end."""
    with Installation(cluster, tmp_path_factory.mktemp("installation")) as made:
        request.config.stash[INSTALLATION] = made
        try:
            yield made
        finally:
            del request.config.stash[INSTALLATION]


@pytest.fixture(scope="session")
def installed(installation: Installation) -> Cluster:
    """The cluster, with crikpy on it."""
    return installation.cluster


@pytest.fixture(scope="session")
def notices(installation: Installation) -> Notices:
    """Gives notices to nodes."""
    return installation.notices


@pytest.fixture
def news(installation: Installation) -> Iterator[AwsNews]:
    """Says things about instances by a queue; all of it is forgotten after the test."""
    if installation.news is None:
        pytest.skip("needs hack/cluster: a queue that the controller reads")
    yield installation.news
    installation.news.clear()
    installation.notices.withdraw_all(installation.cluster.nodes)


@pytest.fixture
def place(installed: Cluster, tmp_path: Path) -> Iterator[Namespace]:
    """A namespace for one test."""
    with namespace(installed.kubectl, f"crikpy-e2e-{secrets.token_hex(4)}", tmp_path) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the agents and the controllers said, when a test or what it rests on has failed."""
    report = yield
    installation = item.config.stash.get(INSTALLATION, None)
    if report.failed and installation is not None:
        report.sections.append(("the cluster", installation.last_words()))
    return report
