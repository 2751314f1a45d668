"""A pod keeps its launcher while agents come and go.

So a launcher of an earlier release serves today's agent; and today's launcher an earlier agent, when the webhook
was updated first.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from crikpy.aio.clock import Deadline
from crikpy.capsule.launcher import LauncherConnection
from crikpy.errors import LauncherError
from crikpy.model.capsule import JobPhase, LauncherStatus
from crikpy.settings import Settings
from tests.fakes.launcher import launcher, says
from tests.golden.frames import sessions
from tests.golden.test_releases import RELEASES
from tests.integration.moving import Bench

FOLDER = Path(__file__).parent
LAUNCHER = os.environ.get("CRIKPY_CRIU_LAUNCHER", "")
real = pytest.mark.skipif(
    not os.access(LAUNCHER, os.X_OK) or os.geteuid() != 0, reason="needs root and CRIKPY_CRIU_LAUNCHER"
)

pytestmark = pytest.mark.parametrize("release", RELEASES)


def said(release: str) -> dict[str, list[str]]:
    """Return the sessions of a release."""
    return json.loads((FOLDER / release / "said" / "launcher.json").read_text())  # type: ignore[no-any-return]


def _relied_on(line: str) -> str:
    """Return what a line's reader goes by: of an error its code, not the text for people."""
    return " ".join(line.split(" ")[:3]) if line.startswith("< error ") else line


@real
def test_todays_launcher_answers_an_earlier_agent_as_its_own_did(release: str) -> None:
    for name, today in sessions().items():
        before = said(release).get(name, [])
        for line, expected in zip(today, before, strict=False):
            # Words may have been added at the end of what the launcher says.
            assert f"{line} ".startswith(f"{_relied_on(expected)} "), name
        assert len(today) >= len(before)


@pytest.mark.parametrize("name", ["begin", "end", "refuse", "save"])
def test_todays_agent_understands_every_line_of_an_earlier_launcher(
    release: str, name: str, tmp_path: Path
) -> None:
    greeting, *exchanges = _exchanges(said(release)[name])
    answers = [answer for _, answer in (greeting, *exchanges)]
    heard: list[str] = []
    with (
        launcher(tmp_path / "s", says(*map(_bytes, answers), heard=heard)),
        LauncherConnection(tmp_path / "s", Deadline.after(20)) as agent,
    ):
        assert agent.greeting.phase is JobPhase.WAITING
        for request, lines in exchanges:
            _speak(agent, request, lines[0])
            if any(line.startswith("event ended") for line in lines):
                assert agent.wait_ended(Deadline.after(20)) == int(lines[-1].split(" ")[2])
            while "event term" in lines and not agent.term_pending:
                agent.read_news()
    assert heard == [f"{request}\n" for request, _ in exchanges]


def _exchanges(lines: list[str]) -> list[tuple[str, list[str]]]:
    """Return each request with all that was said until the next one; the first is none, for the greeting."""
    found: list[tuple[str, list[str]]] = [("", [])]
    for line in lines:
        who, _, text = line.partition(" ")
        if who == ">" and text != "wish":
            found.append((text, []))
        elif who == "<" and text != "error unknown request":
            found[-1][1].append(text)
    return found


def _bytes(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _speak(agent: LauncherConnection, request: str, answer: str) -> None:
    """Have the agent make a request, and make of the answer what it says."""
    word, _, value = request.partition(" ")
    soon = Deadline.after(20)
    acts: dict[str, Callable[[Deadline], LauncherStatus]] = {
        "status": agent.status,
        "start": agent.start,
        "hold": agent.hold,
        "term": agent.hold_term if value == "hold" else agent.pass_term,
        "release": lambda deadline: agent.release(deadline, int(value) if value else None),
        "adopt": lambda deadline: agent.adopt(value, deadline),  # type: ignore[arg-type]  # not all are numbers
    }
    if answer.startswith("error "):
        with pytest.raises(LauncherError):
            acts[word](soon)
        return
    _, phase, pid, status = answer.split(" ")
    found = acts[word](soon)
    ended = found.phase is JobPhase.ENDED
    assert (found.phase, found.job_pid) == (JobPhase(phase), int(pid))
    assert found.exit_status == (int(status) if ended else None)


@pytest.fixture
def with_old_launcher(release: str, container_bench: Bench, tmp_path: Path) -> Bench:
    """A bench whose containers have the launcher of the release, while all else is today's."""
    criu = container_bench.settings.criu
    built = tmp_path / "launch"
    source = FOLDER / release / "launcher" / "launch.c"
    subprocess.run(("gcc", "-std=gnu11", "-O2", "-static", "-o", built, source), check=True)
    for library in criu.launcher.parent.glob("*.so"):
        shutil.copy(library, tmp_path)
    container_bench.settings = replace(container_bench.settings, criu=replace(criu, launcher=built))
    return container_bench


@pytest.mark.criu
def test_a_job_below_an_earlier_launcher_is_saved_and_resumed_below_the_same_and_todays(
    release: str, with_old_launcher: Bench, settings: Settings
) -> None:
    bench = with_old_launcher
    job = bench.begin("family", 3)
    job.prove()
    moved = bench.move(job)
    moved.prove()
    bench.settings = settings
    again = bench.move(moved)
    again.prove()
    assert again.finish() == 0
