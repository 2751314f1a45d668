"""A walk through every command's help and some wrong uses of each: nothing embarrassing, and nobody left alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import click
import pytest

from crikpy.cli.main import cli
from tests.cli.misuses import MISUSES, Misuse
from tests.cli.shelf import OLDER, Shelf, Typist
from tests.integration.capsules import ROOT

_WIDEST = 80
_CONTEXT = click.Context(cli, info_name="crikpy")
COMMANDS = cli.list_commands(_CONTEXT)
_EACH = [(name, misuse) for name, misuses in MISUSES.items() for misuse in misuses]
_IDS = [f"{name} {' '.join(misuse.words)}" for name, misuse in _EACH]


def command_of(name: str) -> click.Command:
    command = cli.get_command(_CONTEXT, name)
    assert command is not None
    return command


def has_output(name: str) -> bool:
    return any("--output" in option.opts for option in command_of(name).params)


@pytest.fixture
def stored(shelf: Shelf) -> Shelf:
    shelf.put(OLDER)
    return shelf


def words_of(name: str, misuse: Misuse, shelf: Shelf) -> Iterator[str]:
    yield name
    yield from (shelf.url if word == "STORE" else word for word in misuse.words)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_help_suffices(name: str, typed: Typist) -> None:
    told = typed(name, "--help")
    assert (told.status, told.err) == (0, "")
    lines = told.out.splitlines()
    assert max(map(len, lines)) <= _WIDEST, max(lines, key=len)
    assert re.search(rf"\n  Examples:\n(    #.*\n)?    (eval .*)?crikpy {name}", told.out)
    assert "\n  Environment:\n    " in told.out
    assert "\n  Exit status:\n    " in told.out
    assert "Traceback" not in told.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is_for(name: str) -> None:
    options = [option for option in command_of(name).params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_is_its_help(name: str, typed: Typist) -> None:
    assert typed("help", name).out == typed(name, "--help").out


def test_the_list_of_commands_cuts_no_sentence(typed: Typist) -> None:
    out = typed("--help").out
    assert "..." not in out.partition("Commands:")[2]
    assert all(re.search(rf"^  {name} .*\.$", out, re.MULTILINE) for name in COMMANDS)


def test_kubectl_users_read_what_they_type(typed: Typist) -> None:
    assert "Usage: kubectl crikpy list " in typed("list", "--help", program="kubectl crikpy").out


def test_no_command_at_all_is_answered_by_the_help_and_an_exit_status(typed: Typist) -> None:
    told = typed()
    assert (told.status, told.out) == (2, "")
    assert "Commands:" in told.err


def test_every_setting_and_every_exit_status_is_told(typed: Typist) -> None:
    settings = typed("help", "settings").out
    page = (ROOT / "docs/settings.md").read_text()
    assert re.findall(r"^  (CRIKPY_\w+)=", settings, re.MULTILINE) == re.findall(r"`(CRIKPY_\w+)` \|", page)
    statuses = typed("help", "exit-statuses").out
    page = (ROOT / "docs/exit-statuses.md").read_text()
    assert re.findall(r"^ *(\d+)  ", statuses, re.MULTILINE) == re.findall(r"^\| (\d+) ", page, re.MULTILINE)


@pytest.mark.parametrize("topic", ["exit-statuses", "settings"])
def test_topics_are_readable(topic: str, typed: Typist) -> None:
    told = typed("help", topic)
    assert (told.status, told.err) == (0, "")
    assert max(map(len, told.out.splitlines())) <= 100


def test_each_command_is_misused_in_three_ways_at_least() -> None:
    assert {name: len(MISUSES.get(name, ())) for name in COMMANDS if len(MISUSES.get(name, ())) < 3} == {}


@pytest.mark.parametrize(("name", "misuse"), _EACH, ids=_IDS)
def test_a_wrong_use_is_answered_in_one_line_with_what_to_do(
    name: str, misuse: Misuse, stored: Shelf, typed: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRIKPY_RUN_RUN_DIR", f"{stored.url}-run")
    told = typed(*words_of(name, misuse, stored))
    told.require(misuse.kind, misuse.says)
    assert told.out == ""
    assert len(told.err.splitlines()) == 2, told.err


@pytest.mark.parametrize(
    ("name", "misuse"),
    [pytest.param(name, misuses[1], id=name) for name, misuses in MISUSES.items() if has_output(name)],
)
def test_programs_are_told_of_a_wrong_use_by_one_object(
    name: str, misuse: Misuse, stored: Shelf, typed: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRIKPY_RUN_RUN_DIR", f"{stored.url}-run")
    _, *words = words_of(name, misuse, stored)
    told = typed(name, "--output", "json", *words)
    facts = json.loads(told.err)
    assert told.out == ""
    assert told.status == facts["exit_code"] == misuse.kind.exit_code
    assert facts["error"] == misuse.kind.reason
    assert misuse.says in facts["message"]
    assert facts["remedy"]


def test_what_lacks_its_value_is_sent_to_the_help_of_its_own_command(typed: Typist) -> None:
    told = typed("list", "--store")
    assert (told.status, told.out) == (2, "")
    assert "crikpy: what to do: `crikpy list --help` shows what it takes" in told.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("moves",), "no such command 'moves'"),
        (("--nope", "list"), "no such option '--nope'"),
        (("--log-format", "xml", "list"), "'xml' is not one of"),
    ],
)
def test_a_wrong_beginning_is_answered_likewise(words: tuple[str, ...], says: str, typed: Typist) -> None:
    told = typed(*words)
    assert (told.status, told.out) == (2, "")
    assert says in told.err
    assert "crikpy: what to do: `crikpy --help`" in told.err


def test_a_bad_setting_is_said_before_anything_is_done(typed: Typist, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRIKPY_STORE_TRANSFERS", "many")
    told = typed("list")
    assert (told.status, told.out) == (3, "")
    assert told.err.startswith("crikpy: CRIKPY_STORE_TRANSFERS='many'")


def test_a_bad_setting_keeps_nobody_from_the_help_on_settings(
    typed: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRIKPY_STORE_TRANSFERS", "many")
    assert "CRIKPY_STORE_TRANSFERS=8" in typed("help", "settings").out
