"""What ends a command badly: a line and a remedy; with --debug the trace too, and never a secret."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import click
import pytest

from crikpy import errors
from crikpy.cli.failing import as_ours
from crikpy.cli.main import cli
from crikpy.log import without_secrets
from tests.cli.machines import PROGRAM
from tests.cli.shelf import OLDER, Shelf, Typist, process
from tests.integration.capsules import PATIENCE_S

_SECRET = "wJalrXUtnFEMI/K7MDENG"


@pytest.fixture
def defect() -> Iterator[str]:
    """A command with a defect that no error of ours stands for, the last words of which hold a secret."""

    @click.command("defect")
    def command() -> None:
        raise KeyError(f"no host in https://me:{_SECRET}@example.com/")

    cli.add_command(command)
    yield "defect"
    del cli.commands["defect"]


def test_a_defect_is_named_one_in_one_line_with_what_to_do(defect: str, typed: Typist) -> None:
    told = typed(defect)
    assert (told.status, told.out) == (errors.CrikpyError.exit_code, "")
    what, remedy = told.err.splitlines()
    assert what.startswith("crikpy: this is a defect of crikpy: KeyError: ")
    assert "crikpy --debug" in remedy


def test_debug_adds_where_it_came_from_without_the_secret(defect: str, typed: Typist) -> None:
    told = typed("--debug", defect)
    assert "  | Traceback (most recent call last):" in told.err
    assert "test_failing.py" in told.err
    assert "https://***@example.com/" in told.err
    assert _SECRET not in told.err
    assert _SECRET not in typed(defect).err


def test_debug_adds_the_trace_to_foreseen_errors_too(typed: Typist) -> None:
    what, remedy, *trace = typed("--debug", "show", "train", "--store", "relative/path").err.splitlines()
    assert what.startswith("crikpy: ")
    assert remedy.startswith("crikpy: what to do: ")
    assert trace[0] == "  | Traceback (most recent call last):"
    assert trace[-1].startswith("  | crikpy.errors.")


def test_programs_get_the_trace_within_the_object(typed: Typist) -> None:
    words = ("show", "train", "--store", "relative/path", "--output", "json")
    assert "Traceback" in json.loads(typed("--debug", *words).err)["trace"]
    assert "trace" not in json.loads(typed(*words).err)


def test_an_option_of_crikpy_behind_the_command_is_told_where_to_stand(typed: Typist) -> None:
    assert "write it before the command: `crikpy --debug list …`" in typed("list", "--debug").err


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("GET https://s3.example/k?X-Amz-Signature=abc&x=1", "GET https://s3.example/k?X-Amz-Signature=***&x=1"),
        ("Authorization: Bearer eyJhbGciOi", "Authorization: Bearer ***"),
        ("http://user:pass@host/path", "http://***@host/path"),
        ("s3://bucket/prefix and user@host", "s3://bucket/prefix and user@host"),
        (f"key {_SECRET} is no key", "key *** is no key"),
    ],
)
def test_credentials_are_blotted_out(text: str, cleaned: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", _SECRET)
    assert without_secrets(text) == cleaned


def test_an_error_of_ours_stays_what_it_is() -> None:
    fault = errors.StoreFullError("full")
    assert as_ours(fault) is fault


@pytest.mark.parametrize("words", [("list",), ("show", "train"), ("show", "train", "-o", "json")])
def test_a_reader_that_went_away_is_no_complaint(words: tuple[str, ...], shelf: Shelf) -> None:
    shelf.put(OLDER, processes=[process(9, 1, "main", anonymous=1)])
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        command = (str(PROGRAM), *words, "--store", shelf.url)
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (141, "")
