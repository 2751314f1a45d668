"""The tools that one would put together instead of crikpy: CRIU or runc with a folder on disk, and a way to S3.

Each is used as its own documentation shows, with its own defaults. Of crikpy there is only the bundle's CRIU.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import servers

_WANTED = Path(__file__).resolve().parent / "peers.txt"
_LATE_S = 900.0
_NULL = Path("/dev/null")
"""Which runc opens again inside the container; other files of the machine would not be known there."""

_CRIU = (
    "#!/bin/sh",
    'exec {bundle}/lib/ld-linux-x86-64.so.2 --inhibit-cache --library-path {bundle}/lib {bundle}/criu "$@"',
)


@dataclass(frozen=True)
class Tools:
    """Programs on a search path, and credentials in an environment.

    Attributes:
        folder: the programs' own, where CRIU may leave what it learnt of the kernel.
        environment: of every program.
    """

    folder: Path
    environment: dict[str, str]

    def run(self, *words: str | Path, output: Path | None = None) -> None:
        """Run a program to its end; its output goes to a file, since what outlives it would keep a pipe open.

        Raises:
            CalledProcessError: what it wrote is printed.
        """
        output = output or self.folder / "output"
        with output.open("w") as written:
            done = subprocess.run(
                [str(word) for word in words],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                timeout=_LATE_S,
                check=False,
            )
        if done.returncode:
            print(output.read_text()[-4000:], file=sys.stderr)
        done.check_returncode()

    def shell(self, line: str) -> None:
        """Run a pipeline to its end; every part of it must succeed."""
        self.run("bash", "-o", "pipefail", "-c", line)


def obtain(folder: Path, bundle: Path, server: servers.Server) -> Tools:
    """Return the tools, installed if need be, which find a server."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crikpy"
    installed = cache / f"peers-{hashlib.sha256(_WANTED.read_bytes()).hexdigest()[:16]}"
    if not installed.exists():
        _install(installed)
    bare = criu_alone(folder, bundle)
    environment = {
        "PATH": f"{folder}:{installed}/bin:{os.environ['PATH']}:/usr/sbin:/sbin",
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_EC2_METADATA_DISABLED": "true",
        "RCLONE_CONFIG_STORE_TYPE": "s3",
        "RCLONE_CONFIG_STORE_PROVIDER": "Other",
        "RCLONE_CONFIG_STORE_ENV_AUTH": "true",
        "RCLONE_CONFIG_STORE_ENDPOINT": server.endpoint,
        "RCLONE_CONFIG_STORE_REGION": "us-east-1",
    }
    return Tools(folder, {**bare.environment, **environment})


def criu_alone(folder: Path, bundle: Path) -> Tools:
    """Make a folder of the run with a wrapper that starts the bundle's CRIU, which runc looks for by name."""
    folder.mkdir()
    criu = folder / "criu"
    criu.write_text("\n".join(_CRIU).format(bundle=bundle) + "\n")
    criu.chmod(0o700)
    return Tools(folder, {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder)})


def _install(target: Path) -> None:
    half = target.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    venv.create(half, with_pip=True)
    pip = (half / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check")
    subprocess.run([*pip, "install", "--requirement", _WANTED], check=True, timeout=_LATE_S)
    for script in (half / "bin").iterdir():
        if script.is_file() and script.read_bytes().startswith(b"#!" + bytes(half)):
            script.write_bytes(script.read_bytes().replace(bytes(half), bytes(target), 1))
    half.rename(target)


class Carrier(Protocol):
    """A way between a folder and a bucket."""

    def upload(self, folder: Path, bucket: str) -> None:
        """Store all files of a folder."""
        ...

    def download(self, bucket: str, folder: Path) -> None:
        """Bring them back into an empty folder."""
        ...


@dataclass(frozen=True)
class AwsCopy:
    """The AWS CLI, file by file (aws s3 cp --recursive)."""

    tools: Tools

    def upload(self, folder: Path, bucket: str) -> None:
        """Store all files of a folder."""
        self.tools.run("aws", "s3", "cp", "--recursive", "--only-show-errors", folder, f"s3://{bucket}/images")

    def download(self, bucket: str, folder: Path) -> None:
        """Bring them back."""
        self.tools.run("aws", "s3", "cp", "--recursive", "--only-show-errors", f"s3://{bucket}/images", folder)


@dataclass(frozen=True)
class RcloneCopy:
    """rclone, file by file (rclone copy)."""

    tools: Tools

    def upload(self, folder: Path, bucket: str) -> None:
        """Store all files of a folder."""
        self.tools.run("rclone", "copy", folder, f"store:{bucket}/images")

    def download(self, bucket: str, folder: Path) -> None:
        """Bring them back."""
        self.tools.run("rclone", "copy", f"store:{bucket}/images", folder)


@dataclass(frozen=True)
class Archive:
    """tar and zstd on all cores, piped into the AWS CLI."""

    tools: Tools

    def upload(self, folder: Path, bucket: str) -> None:
        """Store all files of a folder as one object."""
        self.tools.shell(
            f"tar -C {folder} -c . | zstd -q -T0 | aws s3 cp --only-show-errors - s3://{bucket}/images"
        )

    def download(self, bucket: str, folder: Path) -> None:
        """Bring them back."""
        self.tools.shell(f"aws s3 cp --only-show-errors s3://{bucket}/images - | zstd -q -d | tar -C {folder} -x")


class Victim(Protocol):
    """A job that a tool saves into a folder and brings back."""

    beats: Path

    def dump(self, folder: Path) -> None:
        """Save it and let it run on."""
        ...

    def restore(self, folder: Path) -> None:
        """Bring it back."""
        ...

    def end(self) -> None:
        """Kill it, and wait for its end."""
        ...


class Process:
    """A job as a process of the machine, saved by CRIU itself.

    Attributes:
        beats: where it writes its steps.
        pid: its PID, before and after.
    """

    _OPTIONS = ("--no-default-config", "--manage-cgroups=ignore", "-v1", "--log-file=criu.log")

    def __init__(self, tools: Tools, command: tuple[str, ...], beats: Path) -> None:
        self.beats = beats
        self._tools = tools
        self._started: subprocess.Popen[bytes] | None = subprocess.Popen(
            command,
            cwd=tools.folder,
            env={"PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid: int = self._started.pid

    def dump(self, folder: Path) -> None:
        """Save it and let it run on."""
        self._tools.run(
            *("criu", "dump", f"--tree={self.pid}", "--leave-running"),
            *(f"--images-dir={folder}", f"--work-dir={self._tools.folder}", *self._OPTIONS),
        )

    def restore(self, folder: Path, *more: str) -> None:
        """Bring it back, under the PID that it had."""
        self._tools.run(
            *("criu", "restore", "--restore-detached", *more),
            *(f"--images-dir={folder}", f"--work-dir={self._tools.folder}", *self._OPTIONS),
        )

    def end(self) -> None:
        """Kill it, and wait for its end."""
        _kill(self.pid)
        if self._started is not None:
            self._started.wait()
            self._started = None
        while Path(f"/proc/{self.pid}").exists():  # until init has reaped it, its PID is taken
            time.sleep(0.001)


class Container:
    """The same job as a container of runc, whose root shows what Python needs of this machine."""

    _NAME = "crikpy-bench"

    def __init__(self, tools: Tools, command: tuple[str, ...], beats: Path) -> None:
        self.beats = beats
        self._tools = tools
        self._bundle = beats.parent / "bundle"
        (self._bundle / "rootfs").mkdir(parents=True)
        self._runc = ("runc", f"--root={tools.folder / 'runc'}")
        tools.run("runc", "spec", f"--bundle={self._bundle}")
        description = self._bundle / "config.json"
        spec = json.loads(description.read_text())
        spec["process"].update(terminal=False, args=command, cwd="/")
        shown = ("/usr", "/lib", "/lib64", "/bin", os.path.realpath(sys.base_prefix), str(beats.parent.parent))
        for path in (*shown, str(Path(__file__).resolve().parent)):
            spec["mounts"].append(
                {"destination": path, "type": "bind", "source": os.path.realpath(path), "options": ["rbind"]}
            )
        spec["linux"]["namespaces"] = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]
        description.write_text(json.dumps(spec))
        tools.run(*self._runc, "run", "--detach", f"--bundle={self._bundle}", self._NAME, output=_NULL)

    def dump(self, folder: Path) -> None:
        """Save it and let it run on."""
        self._tools.run(
            *self._runc,
            *("checkpoint", "--leave-running"),
            *(f"--image-path={folder}", f"--work-path={self._tools.folder}", self._NAME),
        )

    def restore(self, folder: Path) -> None:
        """Bring it back."""
        self._tools.run(
            *self._runc,
            *("restore", "--detach", f"--bundle={self._bundle}"),
            *(f"--image-path={folder}", f"--work-path={self._tools.folder}", self._NAME),
            output=_NULL,
        )

    def end(self) -> None:
        """Kill it, and wait for its end."""
        self._tools.run(*self._runc, "delete", "--force", self._NAME)


@contextlib.contextmanager
def lived(victim: Victim) -> Iterator[Victim]:
    """End a job at the end, if it still runs."""
    try:
        yield victim
    finally:
        victim.end()


def _kill(pid: int) -> None:
    """Kill a process that need not be a child, and wait until it is dead, or gone."""
    with contextlib.suppress(ProcessLookupError):
        watched = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(watched, signal.SIGKILL)
            select.select([watched], [], [], _LATE_S)
        finally:
            os.close(watched)
