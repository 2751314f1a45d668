"""Joins, groups and writes tables with pandas, as CSV and as Parquet by pyarrow; prints a digest of each."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

generator = np.random.default_rng(1)
customers = pd.DataFrame({"customer": np.arange(5000), "region": generator.integers(0, 20, 5000).astype(str)})
for step in range(80):
    sales = pd.DataFrame(
        {
            "customer": generator.integers(0, 5000, 40_000),
            "amount": generator.exponential(20, 40_000),
            "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(generator.integers(0, 365, 40_000), "D"),
        }
    )
    joined = sales.merge(customers, on="customer")
    table = joined.groupby(["region", joined["day"].dt.month])["amount"].agg(["sum", "mean", "max"]).reset_index()
    table.to_csv("/var/tmp/table.csv", index=False)
    joined.to_parquet("/var/tmp/joined.parquet")
    again = pd.read_parquet("/var/tmp/joined.parquet")
    digest = hashlib.sha256(pd.util.hash_pandas_object(again).to_numpy().tobytes())
    digest.update(Path("/var/tmp/table.csv").read_bytes())
    print("step", step, digest.hexdigest(), flush=True)
