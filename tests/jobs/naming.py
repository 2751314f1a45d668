"""A job that asks for the name of its host, which is that of its container."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from tests.jobs import proving


def main() -> None:
    """Ask again and again."""
    proving.block()
    hostname = Path("/etc/hostname")

    def prove(_count: int) -> None:
        found = hostname.read_text().strip()
        proving.check_equal((os.uname().nodename, socket.gethostname()), (found, found), "the host's name")
        proving.say(f"host {found}")

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
