"""The demo's store: an S3 server at an address that both machines reach; ends with its standard input.

    python store.py FOLDER ADDRESS BUCKET

Once it can be written to, one JSON line says with which variables crikpy finds it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.fakes.s3_server import S3Server


def main() -> None:
    """Serve."""
    folder, address, bucket = sys.argv[1:]
    with S3Server(Path(folder), address=address) as server:
        server.create_bucket(bucket)
        print(json.dumps(server.environment()), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
