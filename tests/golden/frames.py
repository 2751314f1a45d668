"""What launchers and agents say to each other, line by line, with the real launcher of the machine.

A line begins with who says it: `>` the agent, `<` the launcher, `!` for what happens to the launcher. Numbers that
are PIDs differ from machine to machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.launcher.capsule import Capsule, Peer

_JOB: Final = ("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done")
_TERM: Final = "! SIGTERM"
_END: Final = "! the job is killed"

SESSIONS: Final = {
    "begin": ("> status", "> hold", "> start", "> release", "> status"),
    "save": ("> start", "> hold", _END, "< event", "> status", "> release 75"),
    "end": ("> start", _TERM, "< event", "> term hold", "> term pass", "< event"),
    "refuse": (
        "> start",
        "> start",
        "> adopt 4194304",
        "> term pass",
        "> release",
        "> hold",
        "> adopt x",
        "> wish",
    ),
}
"""What is tried: requests, each of which is answered by one line; what happens; and events that are waited for."""


def sessions(launcher: Path | None = None) -> dict[str, list[str]]:
    """Return what was said in each session, by a launcher or the one of the environment."""
    program = launcher or Path(os.environ["CRIKPY_CRIU_LAUNCHER"])
    return {name: _session(program, lines) for name, lines in SESSIONS.items()}


def _session(launcher: Path, lines: tuple[str, ...]) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="crikpy-") as made:
        folder = Path(made)
        capsule = Capsule(
            launcher,
            _JOB,
            options=["--agent-wait", "3600", "--term-wait", "3600"],
            before=(),
            stdin=subprocess.DEVNULL,
            env=dict(os.environ),
            socket_path=folder / "launch.sock",
            output=folder / "output",
        )
        try:
            peer = capsule.connect()
            said = [f"< {peer.greeting}"]
            for line in lines:
                said += _act(capsule, peer, line)
            return said
        finally:
            capsule.end()


def _act(capsule: Capsule, peer: Peer, line: str) -> list[str]:
    match line:
        case "! SIGTERM":
            capsule.prints("ready")
            capsule.signal(signal.SIGTERM)
            return [line]
        case "! the job is killed":
            capsule.prints("ready")
            capsule.job.kill()
            return [line]
        case "< event":
            return [f"< {peer.event()}"]
    return [line, f"< {peer.ask(line.removeprefix('> '))}"]
