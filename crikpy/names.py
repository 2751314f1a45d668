"""Every name that crikpy shares with the outside: paths, exit statuses, metric and variable names.

Nothing here is computed from the environment; rooms take these as given and settings override where they may.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

ENV_PREFIX: Final = "CRIKPY_"

LAUNCHER_PROTOCOL: Final = 1
"""Version in the launcher's greeting; see docs/formats.md."""

FORMAT_VERSION: Final = 1
"""Version of the manifest and the chunks; see docs/formats.md."""

MANIFEST: Final = "manifest.json"
CLAIM: Final = "claim.json"
QUARANTINE: Final = "quarantine.json"
HOLDER: Final = "holder.json"

RUN_DIR: Final = Path("/run/crikpy")
"""Capsules of plain machines: sockets and their facts. On tmpfs, so that a reboot forgets them."""

LIB_DIR: Final = Path("/var/lib/crikpy")
"""Private temporary directories of capsules on plain machines."""

BUNDLE_DIR: Final = Path("/opt/crikpy/criu")
"""Where the CRIU bundle lies unless a setting says otherwise."""

BUNDLE_LOADER: Final = "ld-linux-x86-64.so.2"
"""The bundle's own dynamic loader, below its lib/."""

LAUNCHER_PATH: Final = Path("/opt/crikpy/launch")
TILES_LIBRARY: Final = "tiles.so"
"""Preloaded into a restoring CRIU; it lies beside the launcher."""

LAUNCHER_SOCKET: Final = "launch.sock"

PID_FLOOR: Final = 9000
"""Jobs get PIDs above this one, so that they never meet those of programs that enter the capsule."""

EXIT_CHECKPOINTED: Final = 75
"""Exit status after a committed checkpoint: EX_TEMPFAIL of sysexits.h, "try again later"."""

PLAIN_GROUP: Final = ("machines", "default")
"""Cluster and namespace of jobs on plain machines unless the user names others."""

CAPTURE_SOCKET: Final = "streamer-capture.sock"
SERVE_SOCKET: Final = "streamer-serve.sock"
"""Names that CRIU expects in its images directory (criu/include/img-streamer.h)."""
