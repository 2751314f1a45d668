"""Colours: on a terminal that has them, and nowhere else; NO_COLOR is heeded by every command alike."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.cli.machines import PROGRAM
from tests.cli.shelf import OLDER, Shelf, process
from tests.integration.capsules import PATIENCE_S

_COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9]")
_BY_RICH = ("show", "train", "--store", "STORE")
_BY_CLICK = ("check", "--store", "STORE")


def on_terminal(shelf: Shelf, words: tuple[str, ...], **changes: str) -> str:
    """Return what stands on a terminal after a command."""
    line = " ".join(shelf.url if word == "STORE" else word for word in words)
    command = ("script", "--quiet", "--return", "--flush", "-c", f"{PROGRAM} {line}", "/dev/null")
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TERM": "xterm-256color", **changes}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S
    )
    return done.stdout


@pytest.fixture
def filled(shelf: Shelf) -> Shelf:
    shelf.put(OLDER, processes=[process(9, 1, "main", anonymous=1)])
    return shelf


@pytest.mark.parametrize("words", [_BY_RICH, _BY_CLICK], ids=["rich", "click"])
def test_a_terminal_gets_colours_unless_they_are_unwanted(filled: Shelf, words: tuple[str, ...]) -> None:
    assert _COLOUR.search(on_terminal(filled, words))
    assert not _COLOUR.search(on_terminal(filled, words, NO_COLOR="1"))
    dumb = on_terminal(filled, words, TERM="dumb")
    assert dumb
    assert "\x1b" not in dumb


def test_a_pipe_gets_none(filled: Shelf) -> None:
    words = (PROGRAM, "show", "train", "--store", filled.url)
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm-256color"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert "main" in done.stdout
    assert "\x1b" not in done.stdout
