"""The files of a dump on their way into the store: which travel by themselves, and their archives written."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from crikpy.aio.clock import Deadline
from crikpy.capsule import members
from crikpy.capsule.archives import write_archive
from crikpy.capsule.beneath import exists_inside
from crikpy.capsule.members import CarriedTree
from crikpy.model.manifest import FileArchive
from crikpy.store.writing import ChunkWriter

_BUFFER_BYTES = 1024 * 1024


def write_archives(trees: Sequence[CarriedTree], writer: ChunkWriter, deadline: Deadline) -> Iterator[FileArchive]:
    """Write an archive of each tree, and yield what is to be known of it.

    Raises:
        CrikpyError: a file cannot travel, the store failed or time ran out.
    """
    for number, tree in enumerate(trees):
        image = f"files/{number}.tar"
        with io.BufferedWriter(writer.file(image), _BUFFER_BYTES) as out:
            entries = write_archive(tree, out, deadline=deadline)
        yield FileArchive(image=image, kind=tree.kind, root=tree.root, entries=entries)


def travels(path: str, trees: Sequence[CarriedTree]) -> bool:
    """Say whether the checkpoint carries a file other than in a whole directory."""
    for tree in trees:
        relative = path.removeprefix(tree.root).lstrip("/")
        match tree.kind:
            case members.OVERLAY if exists_inside(tree.source, relative):
                return True
            case members.FILES if relative in tree.names:
                return True
    return False
