"""Names of images are read as container runtimes read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.errors import RegistryError
from crikpy.registry.references import Reference, parse_reference

DIGEST = "sha256:" + "0f" * 32


@pytest.mark.parametrize(
    ("image", "registry", "repository", "version"),
    [
        ("python", "docker.io", "library/python", "latest"),
        ("python:3.13", "docker.io", "library/python", "3.13"),
        ("team/train", "docker.io", "team/train", "latest"),
        ("docker.io/python", "docker.io", "library/python", "latest"),
        ("index.docker.io/team/train:1", "index.docker.io", "team/train", "1"),
        ("ghcr.io/team/train:v1.2", "ghcr.io", "team/train", "v1.2"),
        ("localhost/train", "localhost", "train", "latest"),
        ("registry:5000/a/b/c", "registry:5000", "a/b/c", "latest"),
        ("[::1]:5000/a", "[::1]:5000", "a", "latest"),
        (f"ghcr.io/team/train@{DIGEST}", "ghcr.io", "team/train", DIGEST),
        (f"ghcr.io/team/train:v1@{DIGEST}", "ghcr.io", "team/train", DIGEST),
        (
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a__b-c:x",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            "a__b-c",
            "x",
        ),
    ],
)
def test_a_name_has_these_parts(image: str, registry: str, repository: str, version: str) -> None:
    reference = parse_reference(image)
    assert reference == Reference(registry=registry, repository=repository, version=version)


def test_the_hub_is_asked_where_it_answers() -> None:
    assert parse_reference("python").server == "registry-1.docker.io"
    assert parse_reference("index.docker.io/team/train").server == "registry-1.docker.io"
    assert parse_reference("ghcr.io/team/train").server == "ghcr.io"


@pytest.mark.parametrize(
    "image",
    [
        "",
        "Python",
        "ghcr.io/",
        "ghcr.io//a",
        "a/../b",
        "ghcr.io/a:",
        "ghcr.io/a:b/c",
        "ghcr.io/a@md5:00",
        "ghcr.io/a@sha256:0",
        "user:secret@ghcr.io/a",
        "ghcr.io:99999999/a",
        "https://ghcr.io/a",
        "gh cr.io/a",
        "ghcr.io/a?b",
        "ghcr.io/a#b",
        "a" * 2000,
    ],
)
def test_what_is_no_name_is_refused(image: str) -> None:
    with pytest.raises(RegistryError, match="not an image's name") as caught:
        parse_reference(image)
    assert len(str(caught.value)) < 300


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        reference = parse_reference(text)
    except RegistryError:
        return
    assert parse_reference(str(reference)) == reference
