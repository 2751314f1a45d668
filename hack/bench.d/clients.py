"""Which client puts chunks into S3 and gets them back at what cost: boto3, as it comes and as set up, and obstore.

The server in memory shares the cores; the client's CPU time ranks them where SeaweedFS is the limit of the wall
time.
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

import servers
from measuring import Cost, Table, cost_of, interleave, machine, publish, rows_of

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from crikpy import settings
from crikpy.store.opening import open_store

CHUNK_BYTES = 8 * 1024 * 1024
CHUNKS = 32
THREADS = 4
RUNS = 5
RECORD = "bench/bench/bench/records/"
"""Keys that are no chunks', so that crikpy's own client sends them by boto3."""


def main() -> None:
    """Run the comparison on each server."""
    for name in servers.NAMES:
        with (
            tempfile.TemporaryDirectory() as folder,
            servers.server(name, Path(folder) / "s3") as server,
            server.bucket("bench"),
        ):
            os.environ.update(server.environment())
            for act, clients in acts_on(server).items():
                compare(server, act, clients)


def acts_on(server: servers.Server) -> dict[str, dict[str, Callable[[str], object]]]:
    """Return what each client does with a key, to put a chunk and to get it."""
    chunk = os.urandom(CHUNK_BYTES)
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
        unsigned_payload=True,
        client_options={"allow_http": True},
    )
    return {
        "put": {
            "boto3, defaults": lambda key: plain.put_object(Bucket="bench", Key=key, Body=chunk),
            "boto3, as crikpy sets it up": lambda key: ours.put(RECORD + key, chunk),
            "obstore": lambda key: other.put(key, chunk, use_multipart=False),
        },
        "get": {
            "boto3, defaults": lambda key: plain.get_object(Bucket="bench", Key=key)["Body"].read(),
            "boto3, as crikpy sets it up": lambda key: ours.get(RECORD + key),
            "obstore": lambda key: memoryview(other.get(key).bytes()),
        },
    }


def compare(server: servers.Server, act: str, clients: dict[str, Callable[[str], object]]) -> None:
    """Run the clients in turn."""
    keys = [f"chunk-{number}" for number in range(CHUNKS)]

    def run(client: Callable[[str], object]) -> Cost:
        with ThreadPoolExecutor(THREADS) as threads:
            return cost_of(lambda: list(threads.map(client, keys)) and None)

    gib = CHUNKS * CHUNK_BYTES / 1024**3
    found = interleave({name: lambda client=client: run(client) for name, client in clients.items()}, RUNS)
    publish(
        Table(
            key=f"clients-{server.name}-{act}",
            title=f"{act.capitalize()} {CHUNKS} chunks by {THREADS} threads, {server.title}",
            command="hack/bench clients",
            machine=machine(),
            rows=rows_of(found, "boto3, defaults", gib=gib),
            base="boto3, defaults",
        )
    )


if __name__ == "__main__":
    main()
