"""Both builds of the launcher, made once; every test of behaviour runs against the sanitized one as well."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.launcher.capsule import Capsule

SOURCE = Path(__file__).parents[2] / "daemonset" / "launcher"
SANITIZER_STATUS = 99
"""No job of these tests exits so: an unexpected 99 is a sanitizer's verdict."""


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `launch` and `launch-sanitized`."""
    build = tmp_path_factory.mktemp("launcher")
    command = ["make", "--no-print-directory", "-C", str(SOURCE), f"BUILD={build}", "launch", "sanitized"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr
    return build


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path that other users may enter too."""
    path = Path(tempfile.mkdtemp(prefix="crikpy-launcher-"))
    path.chmod(0o755)
    yield path
    reports = "".join(report.read_text() for report in path.glob("sanitizer.*"))
    shutil.rmtree(path)
    assert not reports, reports


@pytest.fixture(params=["launch", "launch-sanitized"])
def launcher(request: pytest.FixtureRequest, builds: Path) -> Path:
    """The launcher's program, in either build."""
    return builds / str(request.param)


@pytest.fixture
def env(folder: Path) -> dict[str, str]:
    """An environment in which a sanitizer's finding ends the launcher and leaves a report."""
    options = f"exitcode={SANITIZER_STATUS}:log_path={folder}/sanitizer"
    # No search for leaks: the launcher allocates nothing, and the search does not bear a dying PID namespace.
    return os.environ | {"ASAN_OPTIONS": f"{options}:detect_leaks=0", "UBSAN_OPTIONS": options}


class Start:
    """Starts capsules with a command as their job, and ends them after the test."""

    def __init__(self, launcher: Path, folder: Path, env: dict[str, str]) -> None:
        self._launcher, self._folder, self._env = launcher, folder, env
        self._capsules: list[Capsule] = []

    def __call__(
        self,
        *command: str,
        agent_wait: int = 3600,
        term_wait: int = 3600,
        before: Sequence[str] = (),
        stdin: int = subprocess.DEVNULL,
        socket_path: Path | None = None,
    ) -> Capsule:
        """Start one; `before` is a command that ends in executing the launcher."""
        capsule = Capsule(
            self._launcher,
            command,
            options=["--agent-wait", str(agent_wait), "--term-wait", str(term_wait)],
            before=before,
            stdin=stdin,
            env=self._env,
            socket_path=socket_path or self._folder / "launch.sock",
            output=self._folder / f"output-{len(self._capsules)}",
        )
        self._capsules.append(capsule)
        return capsule

    def end(self) -> None:
        """End all of them."""
        for capsule in self._capsules:
            capsule.end()


@pytest.fixture
def start(launcher: Path, folder: Path, env: dict[str, str]) -> Iterator[Start]:
    """Starts capsules; needs root, for their PID namespaces."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make PID namespaces")
    begin = Start(launcher, folder, env)
    yield begin
    begin.end()
