"""One cluster and one installation of crikpy for all end-to-end tests of a run."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.e2e.cluster import Cluster, Notices, find_cluster
from tests.e2e.installing import SYSTEM, Installation


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
def installation(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Install crikpy, and remove it in the end."""
    with Installation(cluster, tmp_path_factory.mktemp("installation")) as made:
        yield made


@pytest.fixture(scope="session")
def installed(installation: Installation) -> Cluster:
    """The cluster, with crikpy on it."""
    return installation.cluster


@pytest.fixture(scope="session")
def notices(installation: Installation) -> Notices:
    """Gives notices to nodes."""
    return installation.notices


@pytest.fixture(autouse=True)
def agents_last_words(request: pytest.FixtureRequest) -> Iterator[None]:
    """Show what the agents and the controllers said, when a test has failed."""
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed > failed_before and "installation" in request.fixturenames:
        kubectl = request.getfixturevalue("installation").cluster.kubectl
        for app in ("crikpy-agent", "crikpy-controller"):
            said = kubectl.said("logs", "-n", SYSTEM, "-l", f"app={app}", "--prefix", "--tail=40", "--since=3m")
            print(f"---- {app}\n{said}")
