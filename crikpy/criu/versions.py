"""Version numbers of CRIU and of kernels: read, compared, and the oldest that work. Pure."""

from __future__ import annotations

import re
from typing import Final

OLDEST_CRIU: Final = (4, 2, 1)
"""Before it, CRIU asks every socket for SO_PASSCRED, which kernels from 6.16 on refuse for IP sockets."""

OLDEST_KERNEL: Final = (5, 9)
"""The first with CAP_CHECKPOINT_RESTORE and everything else that CRIU cannot do without."""


def criu_version(text: str) -> tuple[int, ...]:
    """Read `4.2.1`, also with a suffix such as `4.2.1-rc1`.

    Raises:
        ValueError: it does not begin with numbers.
    """
    found = re.match(r"v?(\d+(?:\.\d+)*)", text.strip(), re.ASCII)
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a version of CRIU")
    return tuple(int(part) for part in found[1].split("."))


def criu_version_line(output: str) -> str:
    """Find the version in what `criu --version` writes: `Version: 4.2.1`, then perhaps a `GitID:`.

    Raises:
        ValueError: there is no such line.
    """
    found = re.search(r"^Version: (\S+)$", output, re.MULTILINE)
    if found is None:
        raise ValueError(f"no version in {output[:200]!r}")
    return found[1]


def kernel_version(release: str) -> tuple[int, int]:
    """Read major and minor from `uname -r`, such as `6.1.0-49-cloud-amd64`.

    Raises:
        ValueError: it does not begin with two numbers.
    """
    found = re.match(r"(\d+)\.(\d+)", release, re.ASCII)
    if found is None:
        raise ValueError(f"{release[:40]!r} is not a kernel's release")
    return int(found[1]), int(found[2])


def dotted(version: tuple[int, ...]) -> str:
    """Write a version as people do."""
    return ".".join(str(part) for part in version)
