"""Serves the store of hack/store until it is told to end, and writes down how it is found.

python serving.py FOLDER ADDRESS
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from tests.fakes.s3_server import S3Server

BUCKET = "crikpy"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def main() -> None:
    """Serve."""
    folder = Path(sys.argv[1]).resolve()
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    with S3Server(folder / "server", address=sys.argv[2]) as server:
        server.create_bucket(BUCKET)
        found = server.environment() | {"CRIKPY_STORE": f"s3://{BUCKET}/jobs"}
        # The settings last: whoever waits for them finds the keys, too.
        _write(folder / "keys.env", {name: found[name] for name in KEYS}, 0o600)
        settings = {name: value for name, value in found.items() if name.startswith("CRIKPY_")}
        _write(folder / "store.env", settings, 0o644)
        signal.sigwait(ending)


def _write(path: Path, values: dict[str, str], mode: int) -> None:
    """Write the file whole: it is waited for."""
    path.unlink(missing_ok=True)
    new = path.with_suffix(".new")
    new.touch(mode)
    new.chmod(mode)
    new.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    new.rename(path)


if __name__ == "__main__":
    main()
