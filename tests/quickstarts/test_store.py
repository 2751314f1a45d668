"""hack/store starts a store that crikpy finds by what it writes down, once, and ends it."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.s3


def store(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "hack/store", *words], capture_output=True, text=True, timeout=100)


def variables(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a store runs."""
    started = store("start", "--address", "127.0.0.1", tmp_path)
    assert started.returncode == 0, started.stderr
    yield tmp_path
    assert store("stop", tmp_path).returncode == 0


def test_crikpy_finds_it_by_what_it_wrote_down(folder: Path) -> None:
    found = variables(folder / "store.env") | variables(folder / "keys.env")
    command: list[str | Path] = [ROOT / ".venv/bin/crikpy", "list", "--store", found["CRIKPY_STORE"]]
    done = subprocess.run(command, env=os.environ | found, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_only_its_owner_may_read_the_keys_and_the_settings_hold_none(folder: Path) -> None:
    assert stat.S_IMODE((folder / "keys.env").stat().st_mode) == 0o600
    assert all(name.startswith("CRIKPY_STORE") for name in variables(folder / "store.env"))


def test_started_again_it_is_the_same_one(folder: Path) -> None:
    before = (folder / "store.env").read_text(), (folder / "server.pid").read_text()
    again = store("start", "--address", "127.0.0.1", folder)
    assert again.returncode == 0
    assert "runs already" in again.stderr
    assert before == ((folder / "store.env").read_text(), (folder / "server.pid").read_text())


def test_stopped_it_is_gone_and_keeps_what_it_stores(tmp_path: Path) -> None:
    assert store("start", "--address", "127.0.0.1", tmp_path).returncode == 0
    pid = int((tmp_path / "server.pid").read_text())
    assert store("stop", tmp_path).returncode == 0
    program = Path(f"/proc/{pid}/cmdline")
    assert not program.exists() or not program.read_bytes(), "it ran on; one that nobody has waited for has none"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["server", "server.log"]
    assert store("stop", tmp_path).returncode == 0


def test_an_address_that_is_not_this_machine_s_is_said_to_be_wrong(tmp_path: Path) -> None:
    done = store("start", "--address", "192.0.2.77", tmp_path)
    assert done.returncode == 1
    assert "did not start" in done.stderr
