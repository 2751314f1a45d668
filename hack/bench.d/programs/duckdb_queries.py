"""Loads and asks a DuckDB database on disk, in two threads and transactions."""

import duckdb

database = duckdb.connect("/var/tmp/sales.duckdb", config={"threads": 2, "memory_limit": "400MB"})
database.execute("CREATE TABLE sales (step INTEGER, customer INTEGER, amount BIGINT)")
for step in range(100):
    database.execute(
        "INSERT INTO sales SELECT ?, hash(range * 7 + ?) % 1000, hash(range + ?) % 10000 FROM range(20000)",
        [step, step, step],
    )
    answer = database.execute(
        "SELECT count(*), sum(amount), max(total) FROM sales, (SELECT max(total) AS total FROM "
        "(SELECT customer, sum(amount) AS total FROM sales GROUP BY customer))"
    ).fetchone()
    print("step", step, *answer, flush=True)
database.close()
