"""Asks lazy queries of Polars, which run in its own threads, and streams some to Parquet files and back."""

import polars as pl

frame = pl.DataFrame({"number": range(1_000_000)}).with_columns(key=pl.col("number") % 997)
for step in range(800):
    answer = (
        frame.lazy()
        .with_columns(value=(pl.col("number") * (step + 3)) % 65_521)
        .group_by("key")
        .agg(pl.col("value").sum(), pl.col("value").max().alias("most"))
        .sort("value", "key")
    )
    answer.sink_parquet("/var/tmp/answer.parquet")
    read = pl.scan_parquet("/var/tmp/answer.parquet")
    found = read.select(
        pl.col("value").std().alias("spread"), pl.col("most").sum(), pl.col("key").last()
    ).collect()
    print("step", step, *found.row(0), flush=True)
