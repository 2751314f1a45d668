"""The S3 servers of the benchmarks: SeaweedFS, a real one, and one in memory that is never what limits.

Each is a process of its own on loopback that ends with its context. Every run gets a bucket of its own, whose
bytes are gone afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from crikpy.aio.children import Child
from tests.fakes.s3_server import S3Server

ROOT = Path(__file__).resolve().parents[2]
SEAWEEDFS, MEMORY = "seaweedfs", "memory"
NAMES = (SEAWEEDFS, MEMORY)


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        name: which kind.
        pid: its process.
        endpoint: its URL.
        access_key: key id that may do everything.
        secret_key: its secret.
        discards: it keeps no large object.
    """

    name: str
    pid: int
    endpoint: str
    access_key: str
    secret_key: str
    discards: bool = False

    @property
    def title(self) -> str:
        """Return what to call it in a sentence."""
        return "SeaweedFS" if self.name == SEAWEEDFS else "an S3 server in memory"

    def environment(self) -> dict[str, str]:
        """Return the variables with which crikpy and boto3 find it."""
        return {
            "CRIKPY_STORE_ENDPOINT": self.endpoint,
            "CRIKPY_STORE_REGION": "us-east-1",
            "CRIKPY_STORE_PATH_STYLE": "true",
            # As behind TLS, so that all clients do the same; nothing but loopback is in between.
            "CRIKPY_STORE_SIGN_BODIES": "never",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }

    @contextlib.contextmanager
    def bucket(self, name: str) -> Iterator[str]:
        """Make a bucket; remove it with all its bytes, which in SeaweedFS are files of its own."""
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )
        with contextlib.closing(client):
            client.create_bucket(Bucket=name)
            try:
                yield name
            finally:
                for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
                    for found in page.get("Contents", ()):
                        client.delete_object(Bucket=name, Key=found["Key"])
                client.delete_bucket(Bucket=name)

    def requests(self) -> dict[str, int]:
        """Return how many requests of each method came since the last call; of the one in memory only."""
        if self.name != MEMORY:
            return {}
        with urllib.request.urlopen(f"{self.endpoint}/-/requests", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return {method: int(count) for method, count in (line.split() for line in lines)}


@contextlib.contextmanager
def server(name: str, folder: Path, *, bytes_per_s: float = 0, discard: bool = False) -> Iterator[Server]:
    """Run one.

    Args:
        name: of NAMES.
        folder: an empty one, for its data.
        bytes_per_s: what the wire of the one in memory carries; 0 is no bound.
        discard: have the one in memory keep no large object.
    """
    if name == SEAWEEDFS:
        with S3Server(folder) as real:
            yield Server(name, real.pid, real.endpoint, real.access_key, real.secret_key)
        return
    words = [str(_memory_s3()), f"-rate={bytes_per_s:.0f}", *(["-discard"] if discard else [])]
    read, write = os.pipe()
    with Child(words, stdout=write) as child, os.fdopen(read) as output:
        os.close(write)
        yield Server(name, child.pid, f"http://{output.readline().strip()}", "bench", "bench", discard)


def _memory_s3() -> Path:
    """Return the program, built if need be."""
    source = ROOT / "hack" / "memory-s3.d"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crikpy" / "memory-s3"
    key = hashlib.sha256(
        b"".join((source / name).read_bytes() for name in ("go.mod", "main.go", "multipart.go"))
    ).hexdigest()[:16]
    program = cache / f"memory-s3-{key}"
    if not program.exists():
        cache.mkdir(parents=True, exist_ok=True)
        go = subprocess.run(
            ["bash", "-c", _FIND_GO], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()
        with tempfile.TemporaryDirectory(dir=cache) as work:
            built = Path(work) / "memory-s3"
            environment = {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0"}
            words = [go, "build", "-trimpath", "-o", built, "."]
            subprocess.run(words, cwd=source, check=True, env=environment)
            built.rename(program)
    return program


_FIND_GO = """
set -euo pipefail
cache=${XDG_CACHE_HOME:-$HOME/.cache}/crikpy/cluster
mkdir -p "$cache"
say() { printf '%s\\n' "$*" >&2; }
die() { say "$*"; exit 1; }
key() { sha256sum | cut -c1-16; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. hack/cluster.d/debian.bash
. hack/cluster.d/go.bash
find_go
printf '%s\\n' "$go"
"""
