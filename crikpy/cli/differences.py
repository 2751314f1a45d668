"""What differs between two checkpoints of a job: only compared here, and known from their manifests alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

from crikpy.model.manifest import Compatibility, Manifest, OpenFile, ProcessFact

_K = TypeVar("_K")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """A size in both of them, in bytes."""

    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessChange:
    """A process that is in both, told by its PID and command.

    Attributes:
        pid: inside the capsule.
        command: the program's short name.
        resident: resident memory, bytes.
        anonymous: of it anonymous memory, bytes.
        threads: number of threads.
    """

    pid: int
    command: str
    resident: Grown
    anonymous: Grown
    threads: Grown


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """A file that both need of the machine, but not the same one.

    Attributes:
        path: as seen inside the capsule.
        size: bytes.
        other_build: it is a program or library of another build.
    """

    path: str
    size: Grown
    other_build: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What the two ask of a machine differently; lists as their differences alone."""

    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """How the bytes of the second's images lie in the store, beside those of the first.

    Attributes:
        image_bytes: all of them.
        zero_bytes: of these, runs of zeros that no chunk holds.
        shared_bytes: of these, bytes in chunks that the first refers to, too.
        other_bytes: the rest: new, or shared with other checkpoints than the first.
    """

    image_bytes: int
    zero_bytes: int
    shared_bytes: int
    other_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """All of it; empty tuples where nothing differs.

    Attributes:
        before: id of the first checkpoint.
        after: id of the second.
        command: the job's command line, where it differs.
        processes_gone: those of the first alone.
        processes_new: those of the second alone.
        processes: those of both, the ones whose memory changed most in front.
        files_gone: files that only the first needs of a machine.
        files_new: files that only the second needs of one.
        files: those that both need and that changed.
        needs: what else a machine must have, where it differs.
        image: bytes of all images.
        stored: bytes that each newly wrote to the store.
        shared: what the second has in common with the first.
    """

    before: str
    after: str
    command: tuple[Need, ...]
    processes_gone: tuple[ProcessFact, ...]
    processes_new: tuple[ProcessFact, ...]
    processes: tuple[ProcessChange, ...]
    files_gone: tuple[OpenFile, ...]
    files_new: tuple[OpenFile, ...]
    files: tuple[FileChange, ...]
    needs: tuple[Need, ...]
    image: Grown
    stored: Grown
    shared: Shared


def compare(first: Manifest, second: Manifest) -> Difference:
    """Compare two checkpoints of one job, in this order."""
    gone, new, both = _split(_processes(first), _processes(second))
    files_gone, files_new, files = _split(_files(first), _files(second))
    changes = [_process_change(old, now) for old, now in both]
    words = " ".join(first.job.command), " ".join(second.job.command)
    return Difference(
        before=first.checkpoint,
        after=second.checkpoint,
        command=(Need(what="command", before=words[0], after=words[1]),) if words[0] != words[1] else (),
        processes_gone=gone,
        processes_new=new,
        processes=tuple(
            sorted(changes, key=lambda each: -abs(each.resident.after - each.resident.before)),
        ),
        files_gone=files_gone,
        files_new=files_new,
        files=tuple(_file_change(old, now) for old, now in files if old != now),
        needs=tuple(_needs(first.compatibility, second.compatibility)),
        image=Grown(before=first.sizes.image_bytes, after=second.sizes.image_bytes),
        stored=Grown(before=first.sizes.stored_bytes, after=second.sizes.stored_bytes),
        shared=_shared(first, second),
    )


def _processes(manifest: Manifest) -> dict[tuple[int, str], ProcessFact]:
    return {(process.pid, process.command): process for process in manifest.job.processes}


def _files(manifest: Manifest) -> dict[str, OpenFile]:
    return {file.path: file for file in manifest.open_files}


def _split(
    first: Mapping[_K, _T], second: Mapping[_K, _T]
) -> tuple[tuple[_T, ...], tuple[_T, ...], list[tuple[_T, _T]]]:
    gone = tuple(value for key, value in first.items() if key not in second)
    new = tuple(value for key, value in second.items() if key not in first)
    return gone, new, [(value, second[key]) for key, value in first.items() if key in second]


def _process_change(old: ProcessFact, now: ProcessFact) -> ProcessChange:
    return ProcessChange(
        pid=now.pid,
        command=now.command,
        resident=Grown(before=old.resident_bytes, after=now.resident_bytes),
        anonymous=Grown(before=old.anonymous_bytes, after=now.anonymous_bytes),
        threads=Grown(before=old.threads, after=now.threads),
    )


def _file_change(old: OpenFile, now: OpenFile) -> FileChange:
    return FileChange(
        path=now.path, size=Grown(before=old.size, after=now.size), other_build=old.build_id != now.build_id
    )


def _needs(first: Compatibility, second: Compatibility) -> list[Need]:
    found = []
    for field in fields(Compatibility):
        if field.name == "gpus":
            continue
        old, now = getattr(first, field.name), getattr(second, field.name)
        if old == now:
            continue
        words = (_less(old, now), _less(now, old)) if isinstance(old, tuple) else (str(old), str(now))
        found.append(Need(what=field.name.replace("_", " "), before=words[0], after=words[1]))
    for what in ("driver", "models"):
        old, now = _text(getattr(first.gpus, what)), _text(getattr(second.gpus, what))
        if old != now:
            found.append(Need(what=f"GPU {what}", before=old, after=now))
    return found


def _less(words: Sequence[str], others: Sequence[str]) -> str:
    return " ".join(sorted(set(words) - set(others)))


def _text(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def _shared(first: Manifest, second: Manifest) -> Shared:
    known = {extent.chunk for image in first.images for extent in image.extents if extent.chunk}
    extents = [extent for image in second.job_images for extent in image.extents]
    whole = sum(extent.length for extent in extents)
    zeros = sum(extent.length for extent in extents if extent.chunk is None)
    shared = sum(extent.length for extent in extents if extent.chunk in known)
    return Shared(image_bytes=whole, zero_bytes=zeros, shared_bytes=shared, other_bytes=whole - zeros - shared)
