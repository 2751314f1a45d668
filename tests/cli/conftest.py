"""Machines, S3 and metadata services for the tests of the command line, and the watch over what these leave."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crikpy.settings import Settings, from_env
from tests.cli.machines import Machine
from tests.cli.shelf import Shelf, Typist
from tests.fakes.imds import tell
from tests.fakes.s3_server import S3Server
from tests.integration.capsules import PATIENCE_S, ROOT

BUCKET = "crikpy-cli"
_NEEDED = ("CRIKPY_CRIU_BUNDLE", "CRIKPY_CRIU_LAUNCHER")


@pytest.fixture(scope="session", autouse=True)
def clean_end() -> Iterator[None]:
    """Have a SIGTERM to the tests end them as Ctrl-C does, so that nothing of a machine outlives them."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def settings() -> Settings:
    """Settings that say where CRIU and the launcher are, or a skip that says what is missing."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to enter the namespaces of jobs")
    found = from_env({name: value for name, value in os.environ.items() if name in _NEEDED})
    for path, name in zip((found.criu.bundle, found.criu.launcher), _NEEDED, strict=True):
        if not path.exists():
            pytest.skip(f"needs {name} in the environment, since there is no {path}; hack/test sets it")
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, since sockets lie below it, that everybody may enter."""
    with tempfile.TemporaryDirectory(prefix="crikpy-") as made:
        path = Path(made)
        path.chmod(0o755)
        yield path


@pytest.fixture
def machine(folder: Path, settings: Settings) -> Iterator[Machine]:
    """A machine with a store in a directory, which must be clean when every command of it has ended."""
    yield from _watched(Machine(folder / "a", settings), folder)


@pytest.fixture
def other(folder: Path, settings: Settings, machine: Machine) -> Iterator[Machine]:
    """A second machine with the same store."""
    yield from _watched(Machine(folder / "b", settings, store=machine.store, lib_dir=machine.lib_dir), folder)


@pytest.fixture(scope="session")
def saved(settings: Settings) -> Iterator[Machine]:
    """A machine whose store holds one checkpoint, of a job that ends with 7; it is for reading only."""
    with tempfile.TemporaryDirectory(prefix="crikpy-") as made:
        machine = Machine(Path(made) / "a", settings)
        try:
            machine.save("ending", 7)
            yield machine
        finally:
            machine.end()


@pytest.fixture
def heir(saved: Machine, folder: Path, settings: Settings) -> Iterator[Machine]:
    """A machine with a copy of that store, to do with as a test likes."""
    machine = Machine(folder / "h", settings, lib_dir=saved.lib_dir)
    shutil.copytree(saved.store, machine.store)
    yield from _watched(machine, folder)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One S3 server for all tests of the command line."""
    with S3Server(tmp_path_factory.mktemp("cli-s3")) as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture
def s3_machine(machine: Machine, s3_server: S3Server) -> Machine:
    """The machine, with a prefix of its own in S3 as its store."""
    machine.store = f"s3://{BUCKET}/{secrets.token_hex(6)}"
    machine.environment |= s3_server.environment()
    return machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Imds:
    """A metadata service that runs: its URL and the socket for orders."""

    endpoint: str
    control: Path

    def tell(self, order: str, **facts: object) -> Any:
        """Give it an order of tests.fakes.imds."""
        return tell(self.control, {"do": order, **facts})


@pytest.fixture
def imds(folder: Path, machine: Machine) -> Iterator[Imds]:
    """The machine's metadata service, which its commands look at five times a second."""
    control = folder / "imds"
    process = subprocess.Popen(
        (sys.executable, "-m", "tests.fakes.imds", "serve", "--control", str(control)),
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        with process.stdout as output:
            endpoint = json.loads(output.readline())["endpoint"]
        machine.environment |= {
            "CRIKPY_NOTICES_IMDS_ENABLED": "true",
            "CRIKPY_NOTICES_IMDS_ENDPOINT": endpoint,
            "CRIKPY_NOTICES_POLL_INTERVAL_S": "0.2",
        }
        yield Imds(endpoint=endpoint, control=control)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _watched(machine: Machine, folder: Path) -> Iterator[Machine]:
    """Lend a machine; end it whatever happens, and complain of processes that no command is left to answer for."""
    try:
        yield machine
        left = machine.leftovers() if machine.deserted() else {}
    finally:
        machine.end()
    assert not left, f"left behind: {left}"
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line]
    assert not mounts, f"left behind: {mounts}"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """An empty store in a folder."""
    return Shelf(tmp_path / "store")


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typist:
    """A crikpy to type command lines at, which knows no store and no cluster but those that it is told of."""
    for name in [name for name in os.environ if name.startswith(("CRIKPY_", "KUBE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/nonexistent")
    return Typist(capsys, monkeypatch)
