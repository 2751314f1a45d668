"""Machines with a real systemd, for pages that speak of one: namespaces with this machine's programs.

They share this machine's network, and are gone at the end. What a machine writes stays in a folder, of which the
next can be made, as of an AMI.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path

from crikpy.aio.children import Child
from tests.e2e.kubectl import wait_for

ROOT = Path(__file__).resolve().parents[2]
SYSTEMD = Path("/usr/lib/systemd/systemd")
_BOOT = Path(__file__).with_name("boot")
_NAMESPACES = ("--mount", "--uts", "--ipc", "--pid", "--cgroup")


class Machine:
    """One machine while the context lasts.

    Attributes:
        written: the folder of all that it wrote.
    """

    def __init__(self, folder: Path, *, like: Machine | None = None) -> None:
        """Take a folder for it, and the machine, gone by now, of whose disk it is made."""
        self._folder = folder
        self._like = like
        self._cgroup = _unified() / f"crikpy-machine-{secrets.token_hex(4)}"
        self._child: Child | None = None
        self.written = folder / "written"

    def __enter__(self) -> Machine:
        root, work = self._folder / "root", self._folder / "work"
        for folder in (root, work, self.written):
            folder.mkdir(parents=True, exist_ok=True)
        if self._like is not None:
            subprocess.run(["cp", "--archive", f"{self._like.written}/.", self.written], check=True, timeout=60)
        self._cgroup.mkdir()
        words = [_BOOT, root, self.written, work, ROOT]
        apart = f"unshare {' '.join(_NAMESPACES)} --fork --kill-child --"
        enter = f'echo $$ >{self._cgroup}/cgroup.procs; exec {apart} "$@"'
        log = os.open(self._folder / "boot.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._child = Child(["sh", "-c", enter, "sh", *map(str, words)], stdout=log, stderr=log)
            wait_for("systemd", self._up, within_s=60)
        except BaseException:
            print((self._folder / "boot.log").read_text())
            self.__exit__()
            raise
        finally:
            os.close(log)
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.kill_tree()
        wait_for("the machine's end", self._gone)

    def run(self, *words: str | Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a program there."""
        enter = ["nsenter", f"--target={self._first()}", *_NAMESPACES, "--wd=/root", "--", *map(str, words)]
        return subprocess.run(enter, capture_output=True, text=True, timeout=timeout)

    def shell(self, words: str) -> str:
        """Return what shell words print there; they must end well."""
        done = self.run("bash", "-c", words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _first(self) -> int:
        """Return the PID of its first process, as we see it: the only child of unshare."""
        assert self._child is not None
        pids = Path(f"/proc/{self._child.pid}/task/{self._child.pid}/children").read_text().split()
        return int(pids[0])

    def _up(self) -> bool:
        assert self._child is not None
        assert self._child.poll() is None, "the machine did not start"
        with contextlib.suppress(OSError, IndexError, subprocess.TimeoutExpired):
            return self.run("systemctl", "is-active", "basic.target", timeout=10).returncode == 0
        return False

    def _gone(self) -> bool:
        for path, _folders, _files in os.walk(self._cgroup, topdown=False):
            with contextlib.suppress(OSError):
                Path(path).rmdir()
        return not self._cgroup.exists()


def why_none() -> str:
    """Return why there can be no such machine here; empty if there can."""
    if os.geteuid() != 0:
        return "needs root"
    if not SYSTEMD.exists():
        return "needs systemd's programs"
    return "" if _mounts() else "needs cgroup v2"


def _unified() -> Path:
    return Path(_mounts()[0])


def _mounts() -> Sequence[str]:
    return re.findall(r"^\S+ (\S+) cgroup2 ", Path("/proc/mounts").read_text(), re.MULTILINE)
