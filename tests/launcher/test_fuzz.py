"""Whatever bytes come, the launcher stays and answers the next connection."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.launcher.capsule import Capsule, Peer
from tests.launcher.conftest import Start

WORDS = st.sampled_from(
    ["status", "start", "hold", "release", "adopt", "term", "pass", "0", "1", "75", "-1", "%n"]
)
LINES = st.lists(WORDS, max_size=4).map(lambda words: " ".join(words).encode() + b"\n")
BYTES = st.one_of(LINES, LINES, st.binary(max_size=40), st.binary(min_size=500, max_size=1100))


@pytest.fixture
def capsule(start: Start) -> Iterator[Capsule]:
    """A capsule whose job outlives every request; no connection may end it."""
    yield start("sleep", "1000", term_wait=0)


def whisper(path: Path, pieces: list[bytes]) -> None:
    """Say the pieces to the launcher and go away in the middle of whatever that was."""
    with Peer(path) as peer, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for piece in pieces:
            peer.send(piece)


@given(talks=st.lists(st.lists(BYTES, max_size=8), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_launcher_survives_whatever_it_is_told(capsule: Capsule, talks: list[list[bytes]]) -> None:
    capsule.connect().close()
    for pieces in talks:
        whisper(capsule.socket_path, pieces)
    state = capsule.ask("status").split()
    assert state[:2] in (["ok", "waiting"], ["ok", "running"])
    assert capsule.alive()
