"""Stands behind one capsule of the tests, as containerd's shim stands behind a container.

A program of its own, so that a capsule's output has pipes of its own, its exit status somebody who waits for it,
and its end comes even when the tests are killed: it lasts as long as its standard input.

    shim.py container RUNC-ROOT BUNDLE ID
    shim.py plain LAUNCHER SOCKET TEMPORARY CMD [ARG]...
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil

from crikpy.aio.children import kill_tree
from crikpy.aio.clock import Deadline
from crikpy.capsule.making import CapsulePlan, PlainCapsule

AGENT_WAIT_S = 3600.0
_PR_SET_CHILD_SUBREAPER = 36
_WHOLE_SUITE = Deadline.after(86_400)


def keep_container(runc_root: str, bundle: str, name: str) -> int:
    """Create and start a container, wait for its end, and remove it; return its exit status."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    runc = ("runc", "--root", runc_root, "--log", f"{bundle}/runc.log")
    pid_file = Path(bundle, "pid")
    try:
        subprocess.run(
            (*runc, "create", "--bundle", bundle, "--pid-file", str(pid_file), name),
            check=True,
            stdin=subprocess.DEVNULL,
        )
        pid = int(pid_file.read_text())
        _watch_owner(lambda: kill_tree(pid))
        lo_up = ("nsenter", f"--target={pid}", "--net", "--", "ip", "link", "set", "lo", "up")
        subprocess.run(lo_up, check=True)
        subprocess.run((*runc, "start", name), check=True)
        return _status(os.waitpid(pid, 0)[1])
    finally:
        subprocess.run((*runc, "delete", "--force", name), check=False)


def keep_plain(launcher: str, socket: str, temporary: str, *command: str) -> int:
    """Make a capsule as `crikpy run` does, and wait for its end; return its exit status."""
    plan = CapsulePlan(
        launcher=Path(launcher),
        socket=Path(socket),
        temporary=Path(temporary),
        command=command,
        agent_wait_s=AGENT_WAIT_S,
    )
    made = PlainCapsule(plan, os.environ)
    _watch_owner(lambda: _kill_children(made.child.pid))
    return made.wait(_WHOLE_SUITE)


def _watch_owner(end: Callable[[], object]) -> None:
    """Call `end` when standard input does, which is when the tests want it or are no more."""

    def watch() -> None:
        os.read(0, 1)
        end()

    threading.Thread(target=watch, daemon=True).start()


def _kill_children(pid: int) -> None:
    # unshare itself stays, to end with the status of what it waits for.
    for child in psutil.Process(pid).children():
        child.kill()


def _status(how: int) -> int:
    code = os.waitstatus_to_exitcode(how)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    kind, *words = sys.argv[1:]
    sys.exit(keep_plain(*words) if kind == "plain" else keep_container(*words))
