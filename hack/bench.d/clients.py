"""Which client puts chunks into S3 at what cost: boto3 as it comes, boto3 as crikpy sets it up, obstore.

The server is on the same machine and is the limit of the wall time; the client's CPU time is what ranks them.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import obstore.store

from measuring import Cost, cost_of, interleave, report

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from crikpy import settings
from crikpy.store.opening import open_store
from tests.fakes.s3_server import S3Server

CHUNK_BYTES = 8 * 1024 * 1024
CHUNKS = 32
THREADS = 4


def main() -> None:
    """Run the comparison and print it."""
    chunk = os.urandom(CHUNK_BYTES)
    with tempfile.TemporaryDirectory() as folder, S3Server(Path(folder)) as server:
        server.create_bucket("bench")
        os.environ.update(server.environment())
        plain = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name="us-east-1",
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
        )
        ours = open_store("s3://bench/ours", settings.from_env(os.environ).store)
        other = obstore.store.S3Store(
            "bench",
            endpoint=server.endpoint,
            region="us-east-1",
            access_key_id=server.access_key,
            secret_access_key=server.secret_key,
            client_options={"allow_http": True},
        )
        puts: dict[str, Callable[[str], object]] = {
            "boto3, defaults": lambda key: plain.put_object(Bucket="bench", Key=key, Body=chunk),
            "boto3, as crikpy sets it up": lambda key: ours.put(key, chunk),
            "obstore": lambda key: other.put(key, chunk, use_multipart=False),
        }

        keys = [f"chunk-{number}" for number in range(CHUNKS)]

        def run(put: Callable[[str], object]) -> Cost:
            with ThreadPoolExecutor(THREADS) as threads:
                return cost_of(lambda: list(threads.map(put, keys)) and None)

        acts = {name: lambda put=put: run(put) for name, put in puts.items()}
        gib = CHUNKS * CHUNK_BYTES / 1024**3
        report("put 8 MiB chunks, 4 threads", interleave(acts, 5), gib, "boto3, defaults")


main()
