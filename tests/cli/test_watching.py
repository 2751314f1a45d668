"""`--watch`: drawn in place on a terminal, appended elsewhere; Ctrl-C or a closed pipe ends it quietly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from crikpy.cli.watching import Listing, Row, present
from crikpy.errors import StoreError, StoreForbiddenError, StoreUnavailableError
from tests.cli.machines import PROGRAM
from tests.cli.shelf import NEWER, OLDER, Shelf
from tests.integration.capsules import PATIENCE_S

_WATCH = ("list", "--watch", "--interval", "0.2", "--store")


@contextmanager
def watching(*words: str, **changes: str) -> Iterator[subprocess.Popen[str]]:
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **changes}
    process = subprocess.Popen(
        # Ours may be ignored, as in the background of a shell or below nohup; a hangup ends what a terminal runs.
        ("env", "--default-signal=INT,HUP", *words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_pipe_gets_what_is_new_appended_and_ctrl_c_ends_it_with_0(shelf: Shelf) -> None:
    shelf.put(OLDER)
    with watching(str(PROGRAM), *_WATCH, shelf.url) as process:
        assert line_of(process).split()[:3] == ["JOB", "CHECKPOINT", "STATE"]
        assert line_of(process).split()[:3] == ["train", OLDER, "resumable"]
        shelf.put(NEWER)
        assert line_of(process).split()[:3] == ["train", NEWER, "resumable"]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out, err) == (0, "", "")


def test_programs_get_a_line_of_json_for_each_change(shelf: Shelf) -> None:
    shelf.put(OLDER)
    with watching(str(PROGRAM), *_WATCH, shelf.url, "--output", "json") as process:
        first = json.loads(line_of(process))
        assert (first["change"], first["id"]) == ("added", OLDER)
        shelf.store.put(f"machines/default/train/checkpoints/{OLDER}/quarantine.json", b'{"reason":"x","time":""}')
        second = json.loads(line_of(process))
        assert (second["change"], second["state"]) == ("changed", "quarantined")


def test_a_closed_pipe_ends_it_as_it_ends_any_program(shelf: Shelf) -> None:
    shelf.put(OLDER)
    with watching(str(PROGRAM), *_WATCH, shelf.url) as process:
        line_of(process)
        assert process.stdout is not None
        process.stdout.close()
        shelf.put(NEWER)
        assert process.wait(PATIENCE_S) == 141
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_what_may_pass_is_told_and_looked_past(capsys: pytest.CaptureFixture[str]) -> None:
    def listing(state: str) -> Listing:
        return Listing(columns=("NAME", "STATE"), rows=(Row(key="a", cells=("a", state), facts={"state": state}),))

    seen: list[Listing | BaseException] = [
        listing("begun"),
        StoreUnavailableError("no answer"),
        listing("begun"),
        listing("done"),
        KeyboardInterrupt(),
    ]

    def look() -> Listing:
        match seen.pop(0):
            case Listing() as found:
                return found
            case fault:
                raise fault

    present(look, output="table", watch=True, interval=0.0)
    out, err = capsys.readouterr()
    assert out.splitlines() == ["NAME  STATE", "a     begun", "a     done"]
    assert err == "crikpy: no answer; trying again\n"


def test_what_will_not_pass_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[StoreError] = [StoreUnavailableError("no answer"), StoreForbiddenError("not yours")]

    def look() -> Listing:
        raise seen.pop()

    for kind in (StoreForbiddenError, StoreUnavailableError):  # the latter since nothing was ever seen
        with pytest.raises(kind):
            present(look, output="table", watch=True, interval=0.0)
    assert capsys.readouterr().out == ""


def on_terminal(shelf: Shelf) -> tuple[str, ...]:
    command = " ".join((str(PROGRAM), *_WATCH, shelf.url))
    return ("script", "--quiet", "--return", "--flush", "-c", f"stty cols 160; exec {command}", "/dev/null")


def read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout is not None
    seen = ""
    while word not in seen:
        more = process.stdout.read(1)
        assert more, seen
        seen += more
    return seen


def test_a_terminal_is_drawn_on_in_place(shelf: Shelf) -> None:
    shelf.put(OLDER)
    with watching(*on_terminal(shelf), TERM="xterm") as process:
        read_until(process, OLDER)
        shelf.put(NEWER)
        # Up to where the drawing began: what is new does not stand below what was there.
        assert "\x1b[1A" in read_until(process, NEWER)


def test_a_dumb_terminal_gets_it_appended(shelf: Shelf) -> None:
    shelf.put(OLDER)
    with watching(*on_terminal(shelf), TERM="dumb") as process:
        assert read_until(process, OLDER).split()[0] == "JOB"
        shelf.put(NEWER)
        assert "\x1b" not in read_until(process, NEWER)
