"""Reads an archive of a capsule's files and believes none of it.

Every member must obey the rules of docs/formats.md before anybody acts on it: plain names, no name twice, hard
links only to regular files of the same archive, no unknown forms, an end where the end must be. tarfile reads
single header blocks; the stream is walked here, because tarfile takes damage for the end, keeps every member in
memory, and believes whatever lengths it is told. Memory is bounded by the header limit and by the names.
"""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from crikpy.capsule import members
from crikpy.capsule.members import Form, Member
from crikpy.errors import FilesystemError
from crikpy.model.manifest import FileArchive

_BLOCK = tarfile.BLOCKSIZE
_PIECE = 1024 * 1024
_FORMS = {
    tarfile.DIRTYPE: Form.DIRECTORY,
    tarfile.REGTYPE: Form.REGULAR,
    tarfile.LNKTYPE: Form.LINK,
    tarfile.SYMTYPE: Form.SYMLINK,
    tarfile.FIFOTYPE: Form.FIFO,
    tarfile.CHRTYPE: Form.DEVICE,
}
_SINGLE = frozenset({Form.DIRECTORY, Form.REGULAR, Form.LINK})
_OURS = frozenset({members.WHITEOUT, members.OPAQUE})


class ArchiveReader:
    """Yields the members of one archive in order; data may be read of the last one only."""

    def __init__(self, source: BinaryIO, archive: FileArchive) -> None:
        self._source = source
        self._archive = archive
        self._seen: dict[str, Form] = {}
        self._left = 0

    def members(self) -> Iterator[Member]:
        """Yield each member.

        Raises:
            FilesystemError: the archive breaks a rule, is cut short, or is no archive.
        """
        while True:
            self._skip_data()
            with self._parsing():
                member = self._next()
            if member is None:
                break
            yield member
        if len(self._seen) != self._archive.entries:
            raise self._bad(f"it has {len(self._seen)} members instead of {self._archive.entries}")

    def data(self, member: Member) -> Iterator[tuple[int, bytes]]:
        """Yield offset and content of the pieces of the regular file that came last.

        Raises:
            FilesystemError: the archive ends within it.
        """
        for start, length in member.extents:
            offset = start
            while offset < start + length:
                piece = self._source.read(min(_PIECE, start + length - offset))
                if not piece:
                    raise self._bad(f"it ends within {member.name!r}")
                self._left -= len(piece)
                yield offset, piece
                offset += len(piece)

    def _next(self) -> Member | None:
        block = self._read(_BLOCK)
        if not any(block):
            return None
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        headers: dict[str, str] = {}
        if info.type == tarfile.XHDTYPE:
            if not 0 <= info.size <= members.HEADER_LIMIT:
                raise self._bad(f"an extended header has {info.size} bytes")
            headers = _parse_headers(self._read(info.size + _padding(info.size))[: info.size])
            info = tarfile.TarInfo.frombuf(self._read(_BLOCK), "utf-8", "surrogateescape")
        if info.type not in _FORMS:
            raise self._bad(f"{info.name!r} is of the unknown type {info.type!r}")
        stored = int(headers.get("size", info.size))
        member = _describe(info, headers, stored)
        self._check(member, headers)
        if stored != sum(length for _, length in member.extents):
            raise self._bad(f"the data of {member.name!r} are not as long as their header says")
        self._seen[member.name] = member.form
        self._left = stored + _padding(stored)
        return member

    def _check(self, member: Member, headers: dict[str, str]) -> None:
        self._check_name(member)
        self._check_form(member)
        if unknown := [word for word in headers if word.startswith("CRIKPY.") and word not in _OURS]:
            raise self._bad(f"{member.name!r} has a header that this release does not know: {unknown[0]}")
        if strange := [name for name in member.xattrs if "\0" in name or not members.travels(name)]:
            raise self._bad(f"{member.name!r} has an attribute that never travels: {strange[0]!r}")
        if not (0 <= member.uid < 2**32 - 1 and 0 <= member.gid < 2**32 - 1 and 0 <= member.size < 2**63):
            raise self._bad(f"{member.name!r} has an owner or a size that cannot be")
        end = 0
        for offset, length in member.extents:
            if offset < end or length < 0:
                raise self._bad(f"{member.name!r} has data areas that overlap")
            end = offset + length
        if end > member.size:
            raise self._bad(f"{member.name!r} has data beyond its end")

    def _check_name(self, member: Member) -> None:
        parts = members.components(member.name)
        path = members.absolute(member.name, self._archive.root)
        if len(parts) > members.DEEPEST:
            raise self._bad("it has directories nested too deeply")
        if member.name in self._seen:
            raise self._bad(f"{member.name!r} is there twice")
        if not parts and (member.form is not Form.DIRECTORY or member.opaque):
            raise self._bad("its root is not a plain directory")
        if not parts and self._archive.kind == members.FILES:
            raise self._bad("single files come with their root")
        if any(path == ours or path.startswith(ours + "/") for ours in members.RESIDUE):
            raise self._bad(f"{path!r} belongs to crikpy")
        # /proc and /sys are the kernel's, whether or not they are mounts in this capsule.
        if path.startswith(("/proc/", "/sys/")):
            raise self._bad(f"{path!r} is not a place for files")

    def _check_form(self, member: Member) -> None:
        if (member.form is Form.WHITEOUT or member.opaque) and self._archive.kind != members.OVERLAY:
            raise self._bad(f"{member.name!r} removes files, which only an archive of an overlay may do")
        if member.opaque and member.form is not Form.DIRECTORY:
            raise self._bad(f"{member.name!r} is opaque and no directory")
        if self._archive.kind == members.FILES and member.form not in _SINGLE:
            raise self._bad(f"{member.name!r} is a {member.form}, and only regular files come as single files")
        if member.form is Form.DEVICE and member.device not in members.DEVICES:
            raise self._bad(f"{member.name!r} is a device node that no job needs: {member.device}")
        if member.form is Form.LINK and self._seen.get(member.target) is not Form.REGULAR:
            raise self._bad(f"{member.name!r} is a hard link to {member.target!r}, no file of this archive")
        if member.form is Form.SYMLINK and (not member.target or "\0" in member.target):
            raise self._bad(f"{member.name!r} is a symbolic link to nothing")

    def _skip_data(self) -> None:
        while self._left:
            self._left -= len(self._read(min(_PIECE, self._left)))

    def _read(self, count: int) -> bytes:
        """Return so many bytes of the source, which may hand out less at a time."""
        pieces: list[bytes] = []
        while count:
            piece = self._source.read(count)
            if not piece:
                raise self._bad("it is cut short")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    @contextlib.contextmanager
    def _parsing(self) -> Iterator[None]:
        # What the source itself raises, the store's errors among it, is not ours to translate.
        try:
            yield
        except (tarfile.TarError, ValueError, KeyError) as fault:
            raise self._bad(f"not as documented: {fault}") from fault

    def _bad(self, why: str) -> FilesystemError:
        return FilesystemError(
            f"the archive {self._archive.image} of the job's files cannot be used: {why}",
            remedy="verify the checkpoint; it is damaged or was changed",
        )


def _padding(size: int) -> int:
    return -size % _BLOCK


def _parse_headers(text: bytes) -> dict[str, str]:
    """Read the records of an extended header: `<length> <keyword>=<value>` and a newline.

    Raises:
        ValueError: a record is not of that form.
    """
    headers: dict[str, str] = {}
    while text:
        digits, blank, _ = text[:20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record, text = text[:length], text[length:]
        keyword, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not (blank and keyword and equals and record[-1:] == b"\n" and len(record) == length):
            raise ValueError("an extended header is damaged")
        headers[keyword.decode(errors="surrogateescape")] = value.decode(errors="surrogateescape")
    return headers


def _describe(info: tarfile.TarInfo, headers: dict[str, str], stored: int) -> Member:
    """Put together what the header block and the extended header say; the latter wins.

    Raises:
        ValueError, KeyError: a header is missing or not as documented.
    """
    extents: tuple[tuple[int, int], ...] = ((0, stored),) if stored else ()
    if members.SPARSE_MAP in headers:
        numbers = [int(word) for word in headers[members.SPARSE_MAP].split(",")]
        extents = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    name = headers.get("path", info.name)
    form = Form.WHITEOUT if members.WHITEOUT in headers else _FORMS[info.type]
    return Member(
        name=name.removesuffix("/") if form is Form.DIRECTORY else name,
        form=form,
        mode=info.mode & 0o7777,
        uid=int(headers.get("uid", info.uid)),
        gid=int(headers.get("gid", info.gid)),
        mtime_ns=members.parse_time(headers[members.TIME]),
        size=int(headers.get(members.SPARSE_SIZE, stored)),
        extents=extents if form is Form.REGULAR else (),
        target=headers.get("linkpath", info.linkname),
        device=(info.devmajor, info.devminor),
        xattrs={
            members.xattr_name(keyword): value.encode(errors="surrogateescape")
            for keyword, value in headers.items()
            if keyword.startswith(members.XATTR)
        },
        opaque=members.OPAQUE in headers,
    )
