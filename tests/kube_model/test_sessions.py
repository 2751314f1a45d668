"""Sessions are opened by whoever has the key, for as long as they last, and by nobody else."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.kube.sessions import Sessions

KEY, OTHER, THIRD = b"-----BEGIN PRIVATE KEY-----a", b"-----BEGIN PRIVATE KEY-----b", b"c"


def sessions(*keys: bytes, life_s: float = 60) -> Sessions:
    made = Sessions(life_s)
    for key in keys:
        made.use(key)
    return made


@given(token=st.text(max_size=200))
def test_every_replica_opens_what_another_has_sealed(token: str) -> None:
    sealed = sessions(KEY).seal(token)
    assert sessions(KEY).open(sealed) == token
    assert all(sign.isalnum() or sign in "-_=" for sign in sealed), "a cookie can hold it"


def test_nobody_without_the_key_opens_it() -> None:
    sealed = sessions(KEY).seal("token")
    assert "token" not in sealed
    assert sessions(OTHER).open(sealed) is None
    assert sessions().open(sealed) is None


@given(place=st.integers(0, 90), sign=st.sampled_from("Az09-_"))
def test_what_was_changed_is_not_opened(place: int, sign: str) -> None:
    sealed = sessions(KEY).seal("token")
    changed = sealed[:place] + sign + sealed[place + 1 :]
    assert sessions(KEY).open(changed) == ("token" if changed == sealed else None)


@pytest.mark.parametrize("odd", ["", "x", "gAAAAA", "é", "a.b.c"])
def test_what_was_never_sealed_is_not_opened(odd: str) -> None:
    assert sessions(KEY).open(odd) is None


def test_a_session_outlives_one_new_certificate_and_not_two() -> None:
    kept = sessions(KEY)
    sealed = kept.seal("token")
    kept.use(OTHER)
    assert kept.open(sealed) == "token"
    kept.use(THIRD)
    assert kept.open(sealed) is None


def test_a_session_ends() -> None:
    short = sessions(KEY, life_s=1)
    sealed = short.seal("token")
    assert short.open(sealed) == "token"
    time.sleep(2.1)  # lives are whole seconds
    assert short.open(sealed) is None


def test_without_a_key_nothing_is_sealed() -> None:
    assert sessions().seal("token") == ""
