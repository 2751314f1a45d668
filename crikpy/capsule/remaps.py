"""Takes away the names that a dumping CRIU has given to files of the job.

A file that has lost the name by which it was opened, and has another, gets one more beside the lost one, by which
a restore finds it (`link_remap.N`, criu/files-reg.c). CRIU takes it away again if the job goes on at once; ours
stays stopped until it is decided what becomes of it. Left there, the job would see it, and the next dump would
fail of it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from crikpy.capsule.beneath import look, opened_below, opened_trusted
from crikpy.capsule.holding import Process, folder_of
from crikpy.capsule.preflight import LostName

_NAME = re.compile(r"link_remap\.\d+")


def remove(launcher: Process, lost: Iterable[LostName]) -> None:
    """Remove what CRIU has put beside lost names, or above where their directories are gone as well.

    Only further names of the very files that the job has open are removed. Harmless when there is none.

    Args:
        launcher: the capsule's launcher.
        lost: the files.
    """
    for file in lost:
        with contextlib.suppress(OSError), opened_trusted(folder_of(launcher) / "root") as root:
            for parent in PurePosixPath(file.path).parents:
                with contextlib.suppress(FileNotFoundError), opened_below(root, parent.parts[1:]) as directory:
                    _remove_in(directory, file)
                    break


def _remove_in(directory: int, file: LostName) -> None:
    for name in filter(_NAME.fullmatch, os.listdir(directory)):
        found = look(directory, name)
        if found is not None and (found.st_dev, found.st_ino) == (os.makedev(*file.device), file.inode):
            os.unlink(name, dir_fd=directory)
