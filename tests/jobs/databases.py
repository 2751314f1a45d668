"""A job that keeps one connection to an SQLite database, in the journal mode that is given, and writes to it."""

from __future__ import annotations

import sqlite3
import sys

from tests.jobs import proving


def main() -> None:
    """Insert a row with each proof, and say what comes of it."""
    database = sqlite3.connect("/tmp/numbers.db", isolation_level=None)
    database.execute(f"PRAGMA journal_mode={sys.argv[1]}")
    database.execute("CREATE TABLE numbers (number INTEGER)")

    def prove(count: int) -> None:
        try:
            database.execute("INSERT INTO numbers VALUES (?)", (count,))
        except sqlite3.OperationalError as fault:
            proving.say(f"fault {fault}")
        rows = database.execute("SELECT number FROM numbers ORDER BY number").fetchall()
        proving.say(f"rows {[number for (number,) in rows]}")

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
