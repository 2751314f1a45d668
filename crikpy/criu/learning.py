"""What CRIU must know of this kernel, learnt on the node and handed to every run inside a capsule.

Left alone, CRIU finds it out anew at each start: it mounts a tmpfs below /tmp and unmounts it again, in the job's
own mount namespace, while the job still runs. A root file system that is read-only makes that fail, and a job
that puts a link in place of the directory chooses what gets mounted over or unmounted. The bundle's CRIU keeps
its cache in its working directory (daemonset/criu/README.md), which is ours: with it there, nothing is tried.
Source: criu/kerndat.c of CRIU 4.2, kerndat_init.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Final

from crikpy.aio.children import Child
from crikpy.aio.clock import Deadline
from crikpy.criu import argv

CACHE: Final = "criu.kdat"
"""The cache's name in CRIU's working directory."""

_MEMORY: Final = "/dev/shm"  # noqa: S108  CRIU keeps its cache on a tmpfs only, so that it goes with the kernel
_LONGEST_S: Final = 20.0
_log = logging.getLogger(__name__)
_known: dict[Path, bytes] = {}


def hand_over(bundle: Path, folder: Path, deadline: Deadline) -> None:
    """Put what the bundle's CRIU knows of this kernel into the folder that is to be its working directory.

    Raises:
        DeadlineError: CRIU did not find it out in time.
    """
    if bundle not in _known:
        _learn(bundle, deadline)
    if bundle in _known:
        (folder / CACHE).write_bytes(_known[bundle])


def _learn(bundle: Path, deadline: Deadline) -> None:
    with tempfile.TemporaryDirectory(prefix="crikpy-", dir=_MEMORY) as folder:
        words = argv.check(str(bundle), folder)
        with Child(words, env=argv.ENVIRONMENT) as child:
            status = child.wait(deadline.earlier(_LONGEST_S))
        try:
            _known[bundle] = Path(folder, CACHE).read_bytes()
        except FileNotFoundError:
            # Its dumps will say what is wrong, if anything is.
            _log.warning("CRIU kept nothing of what it learnt of this kernel", extra={"status": status})
