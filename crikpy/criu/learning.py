"""What CRIU must know of this kernel, learnt on the node and handed to every run inside a capsule.

Left alone, CRIU finds it out anew at each start: it mounts a tmpfs below /tmp and unmounts it again, in the job's
own mount namespace, while the job still runs. A root file system that is read-only makes that fail, and a job
that puts a link in place of the directory chooses what gets mounted over or unmounted. The bundle's CRIU keeps
its cache in its working directory (daemonset/criu/README.md), which is ours: with it there, nothing is tried.
Source: criu/kerndat.c of CRIU 4.2, kerndat_init.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from crikpy.aio.children import Child
from crikpy.aio.clock import Deadline
from crikpy.criu import argv
from crikpy.errors import CriuError

CACHE: Final = "criu.kdat"
"""The cache's name in CRIU's working directory."""

_MEMORY: Final = "/dev/shm"  # noqa: S108  CRIU keeps its cache on a tmpfs only, so that it goes with the kernel
_LONGEST_S: Final = 20.0
_SEEING_MODULES: Final = (
    *("/usr/bin/unshare", "--mount", "/bin/sh", "-c"),
    '/bin/mount -t securityfs securityfs /sys/kernel/security; exec "$@"',
    "crikpy-learn",
)
"""CRIU looks for AppArmor below /sys/kernel/security, where nothing is mounted in an agent's container; without
it, confined jobs would be restored as unconfined ones."""

_known: dict[Path, bytes] = {}


def hand_over(bundle: Path, folder: Path, deadline: Deadline) -> None:
    """Put what the bundle's CRIU knows of this kernel into the folder that is to be its working directory.

    Raises:
        CriuError: CRIU does not tell; without it, it would look for itself, inside the capsule.
        DeadlineError: CRIU did not find it out in time.
    """
    if bundle not in _known:
        _known[bundle] = _learn(bundle, deadline)
    (folder / CACHE).write_bytes(_known[bundle])


def _learn(bundle: Path, deadline: Deadline) -> bytes:
    with tempfile.TemporaryDirectory(prefix="crikpy-", dir=_MEMORY) as folder:
        words = (*_SEEING_MODULES, *argv.check(str(bundle), folder))
        with Child(words, env=argv.ENVIRONMENT) as child:
            status = child.wait(deadline.earlier(_LONGEST_S))
        try:
            return Path(folder, CACHE).read_bytes()
        except FileNotFoundError as absent:
            raise CriuError(
                f"CRIU kept nothing of what it learnt of this kernel, its status was {status}",
                remedy="make the bundle with this release's hack/criu-bundle",
            ) from absent
