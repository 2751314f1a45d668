"""Files on their way into the store: one archive for each tree that travels.

What travels is decided in crikpy.capsule.changes, and how it is written down in crikpy.capsule.archives.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence

from crikpy.aio.clock import Deadline
from crikpy.capsule import members
from crikpy.capsule.archives import write_archive
from crikpy.capsule.beneath import exists_inside
from crikpy.capsule.changes import Place, place_of
from crikpy.capsule.members import CarriedTree
from crikpy.capsule.mounts import Mount
from crikpy.capsule.ownfiles import is_own
from crikpy.capsule.preflight import LostName
from crikpy.capsule.procfs import is_text
from crikpy.model.manifest import FileArchive, OpenFile
from crikpy.store.writing import ChunkWriter

_BUFFER_BYTES = 1024 * 1024


def write_archives(trees: Sequence[CarriedTree], writer: ChunkWriter, deadline: Deadline) -> Iterator[FileArchive]:
    """Write what is carried, an archive each; yields what the manifest has to say of it.

    Raises:
        CrikpyError: a file cannot travel, the store failed or time ran out.
    """
    for number, tree in enumerate(trees):
        image = f"files/{number}.tar"
        with io.BufferedWriter(writer.file(image), _BUFFER_BYTES) as out:
            entries = write_archive(tree, out, deadline=deadline)
        yield FileArchive(image=image, kind=tree.kind, root=tree.root, entries=entries)


def travelling(
    lost: Collection[LostName], trees: Sequence[CarriedTree], mounts: Sequence[Mount]
) -> frozenset[LostName]:
    """Return those whose filesystem is carried; of others the next machine needs what CRIU has put there."""
    carried = {place_of(tree.root, mounts).device for tree in trees}
    return frozenset(file for file in lost if place_of(file.path, mounts).device in carried)


def needed_files(
    files: Collection[OpenFile], trees: Sequence[CarriedTree], carried: Collection[Place], mounts: Sequence[Mount]
) -> tuple[OpenFile, ...]:
    """Return those that the restore's machine must have by itself, as far as their names can be told."""
    return tuple(
        file
        for file in files
        if is_text(file.path)
        and not is_own(file.path, mounts)
        and not _travels(file.path, trees)
        and not place_of(file.path, mounts).lies_in(carried)
    )


def _travels(path: str, trees: Sequence[CarriedTree]) -> bool:
    """Say whether the checkpoint carries a file other than in a whole directory."""
    for tree in trees:
        relative = path.removeprefix(tree.root).lstrip("/")
        match tree.kind:
            case members.OVERLAY if exists_inside(tree.source, relative):
                return True
            case members.FILES if relative in tree.names:
                return True
    return False
