"""Databases that SQLite would refuse to write after a move are found among what a process has open."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from crikpy.capsule.databases import cautions


def _database(path: Path, mode: str) -> sqlite3.Connection:
    made = sqlite3.connect(path, isolation_level=None)
    made.execute(f"PRAGMA journal_mode={mode}")
    made.execute("CREATE TABLE numbers (number INTEGER)")
    return made


def test_a_database_with_a_rollback_journal_is_named_with_its_remedy(tmp_path: Path) -> None:
    with closing(_database(tmp_path / "study.db", "delete")):
        (caution,) = cautions([os.getpid(), os.getpid()])
    assert str(tmp_path / "study.db") in caution
    assert "journal_mode=WAL" in caution


def test_a_database_in_wal_mode_is_not(tmp_path: Path) -> None:
    with closing(_database(tmp_path / "study.db", "wal")):
        assert cautions([os.getpid()]) == ()


def test_neither_is_one_that_is_only_read_or_has_no_name_any_more(tmp_path: Path) -> None:
    _database(tmp_path / "read.db", "delete").close()
    with (
        closing(sqlite3.connect(f"file:{tmp_path}/read.db?mode=ro", uri=True)) as reading,
        closing(_database(tmp_path / "gone.db", "delete")),
    ):
        assert reading.execute("SELECT count(*) FROM numbers").fetchone() == (0,)
        (tmp_path / "gone.db").unlink()
        assert cautions([os.getpid()]) == ()


def test_other_files_and_processes_that_have_ended_say_nothing(tmp_path: Path) -> None:
    short, other = tmp_path / "short", tmp_path / "other"
    short.write_bytes(b"SQLite format 3\0\0\0\1")
    other.write_bytes(b"\1" * 4096)
    with short.open("r+b"), other.open("r+b"):
        assert cautions([os.getpid(), 2**22 + 1]) == ()
