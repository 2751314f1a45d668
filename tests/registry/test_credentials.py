"""Pull secrets: read in both forms, matched as kubelet matches them, silent about what is spoilt."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from crikpy.registry.credentials import find_credentials
from crikpy.registry.references import parse_reference


def secret_of(document: Any, *, key: str = ".dockerconfigjson") -> dict[str, Any]:
    return {"data": {key: base64.b64encode(json.dumps(document).encode()).decode()}}


def users_for(image: str, *keys: str) -> list[str]:
    """Return the users of the credentials that fit an image; each is named like its key."""
    auths = {key: {"username": key, "password": "x"} for key in keys}
    return [one.username for one in find_credentials([secret_of({"auths": auths})], parse_reference(image))]


@pytest.mark.parametrize(
    ("key", "image", "fits"),
    [
        ("ghcr.io", "ghcr.io/team/train", True),
        ("https://ghcr.io", "ghcr.io/team/train", True),
        ("http://ghcr.io/v2/", "ghcr.io/team/train", True),
        ("ghcr.io", "gcr.io/team/train", False),
        ("ghcr.io", "evil-ghcr.io/team/train", False),
        ("ghcr.io/team", "ghcr.io/team/train", True),
        ("ghcr.io/team/", "ghcr.io/team/train", True),
        ("ghcr.io/te", "ghcr.io/team/train", False),
        ("ghcr.io/team/train", "ghcr.io/team/train", True),
        ("ghcr.io:443", "ghcr.io/team/train", False),
        ("registry:5000", "registry:5000/a", True),
        ("*.example.com", "registry.example.com/a", True),
        ("*.example.com", "a.b.example.com/a", False),
        ("*.example", "registry.example.com/a", False),
        ("*.*.example.com", "a.b.example.com/a", True),
        ("*.example.com:5000", "registry.example.com:5000/a", True),
        ("https://index.docker.io/v1/", "python", True),
        ("docker.io", "index.docker.io/team/train", True),
        ("registry-1.docker.io", "python", True),
        ("docker.io", "ghcr.io/python", False),
    ],
)
def test_a_key_fits_an_image(key: str, image: str, fits: bool) -> None:
    assert users_for(image, key) == ([key] if fits else [])


def test_the_most_specific_comes_first() -> None:
    keys = ("*.example.com", "registry.example.com", "registry.example.com/team/a", "registry.example.com/team")
    assert users_for("registry.example.com/team/a", *keys) == [keys[2], keys[3], keys[1], keys[0]]


def test_user_and_password_may_be_one_word() -> None:
    auth = base64.b64encode(b"me:pass:word").decode()
    (one,) = find_credentials([secret_of({"auths": {"ghcr.io": {"auth": auth}}})], parse_reference("ghcr.io/a"))
    assert (one.username, one.password) == ("me", "pass:word")


def test_the_old_form_has_no_outer_object() -> None:
    old = secret_of({"ghcr.io": {"username": "me", "password": "x"}}, key=".dockercfg")
    (one,) = find_credentials([old], parse_reference("ghcr.io/a"))
    assert one.username == "me"


def test_a_refresh_token_is_enough() -> None:
    (one,) = find_credentials(
        [secret_of({"auths": {"ghcr.io": {"identitytoken": "t"}}})], parse_reference("ghcr.io/a")
    )
    assert one.identity_token == "t"


@pytest.mark.parametrize(
    "spoilt",
    [
        {},
        {"data": None},
        {"data": {".dockerconfigjson": "%%%"}},
        {"data": {".dockerconfigjson": 7}},
        secret_of([1]),
        secret_of({"auths": [1]}),
        secret_of({"auths": {"ghcr.io": None}}),
        secret_of({"auths": {"ghcr.io": {}}}),
        secret_of({"auths": {"ghcr.io": {"auth": "é"}}}),
        secret_of({"auths": {"": {"username": "a", "password": "b"}}}),
        {"data": {".dockerconfigjson": base64.b64encode(b"[" * 100_000).decode()}},
    ],
)
def test_a_spoilt_secret_keeps_no_other_from_being_used(spoilt: dict[str, Any]) -> None:
    good = secret_of({"auths": {"ghcr.io": {"username": "me", "password": "x"}}})
    assert [one.username for one in find_credentials([spoilt, good], parse_reference("ghcr.io/a"))] == ["me"]


def test_no_secret_shows_in_its_description() -> None:
    entry = {"username": "me", "password": "pw-hush", "identitytoken": "tk-hush"}
    (one,) = find_credentials([secret_of({"auths": {"ghcr.io": entry}})], parse_reference("ghcr.io/a"))
    assert "hush" not in repr(one)
