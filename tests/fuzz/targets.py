"""What bytes from outside may do to each reader: be understood, or be refused by the one error that it promises.

A target takes any bytes; what it raises is a bug. Where bytes were understood, what they mean is held against the
writer of the same format, so that a fuzzer finds wrong answers too, and not only crashes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from blake3 import blake3

from crikpy.aio.clock import Deadline
from crikpy.capsule.applying import apply_archive
from crikpy.capsule.hooks import read_answer
from crikpy.capsule.launcher import LauncherConnection
from crikpy.criu import openfiles
from crikpy.criu.framing import encode_request, read_request
from crikpy.ec2.messages import MessageError, parse_message
from crikpy.ec2.notices import SOURCES, translate
from crikpy.errors import (
    AnnotationError,
    CapsuleError,
    CriuError,
    FilesystemError,
    FormatVersionError,
    IntegrityError,
    KubeInvalidError,
    LauncherError,
    MetadataError,
)
from crikpy.kube.annotations import parse_options
from crikpy.kube.orders import parse_order
from crikpy.model.manifest import FileArchive
from crikpy.store.chunks import ChunkDecoder, chunk_name
from crikpy.store.manifests import decode_manifest, encode_manifest

SEEN: Final = datetime(2025, 1, 31, 12, tzinfo=UTC)
_PATIENCE_S: Final = 20.0


def manifest(data: bytes) -> None:
    """Read a manifest as it lies in the store."""
    with contextlib.suppress(IntegrityError, FormatVersionError):
        found = decode_manifest(data)
        assert decode_manifest(encode_manifest(found)) == found


def manifest_body(data: bytes) -> None:
    """Read a manifest whose hash somebody has made right."""
    with contextlib.suppress(UnicodeDecodeError):
        manifest(f'{{"format":1,"blake3":"{blake3(data).hexdigest()}","manifest":{data.decode()}}}'.encode())


def chunk(data: bytes) -> None:
    """Read a chunk; its name is the hash of something else, but for those of one byte."""
    with contextlib.suppress(IntegrityError, FormatVersionError):
        plain = ChunkDecoder().decode(_name_of_one_byte(), data)
        assert bytes(plain) == b"\0"


def stream(data: bytes) -> None:
    """Read what CRIU asks an image streamer for."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(_PATIENCE_S)
        ours.settimeout(_PATIENCE_S)
        theirs.sendall(data[:60_000])
        theirs.shutdown(socket.SHUT_WR)
        with contextlib.suppress(CriuError):
            while (name := read_request(ours)) is not None:
                assert 4 < len(encode_request(name)) <= len(data)


def open_files(data: bytes) -> None:
    """Read what a job has open, and say something else of it."""
    with contextlib.suppress(CriuError):
        found = openfiles.rewritten(data, lambda each: each, lambda each: each)
        assert found == data
        openfiles.removed_files(data.replace(b"\x38\x31\x30\x56", b"\x54\x39\x13\x59", 1))
        ended = openfiles.rewritten(data, lambda _: None, lambda each: each)
        assert all(each.source.port == 0 for each in openfiles.sockets(ended))


def launcher(data: bytes) -> None:
    """Be spoken to by a launcher, in lines of its own choice."""
    with _folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = folder / "launch.sock"
        listener.bind(str(path))
        listener.listen(1)

        def talk() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as peer:
                peer.settimeout(_PATIENCE_S)
                peer.sendall(data)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(4096):
                    pass

        talker = threading.Thread(target=talk)
        talker.start()
        deadline = Deadline.after(_PATIENCE_S)
        try:
            with contextlib.suppress(LauncherError), LauncherConnection(path, deadline) as connection:
                connection.hold(deadline)
                connection.read_news()
                connection.release(deadline)
        finally:
            talker.join()


def job_answer(data: bytes) -> None:
    """Be answered by a process of a job that was told of its checkpoint."""
    reading, writing = os.pipe2(os.O_NONBLOCK)
    try:
        os.write(writing, data[:4096])
        os.close(writing)
        with contextlib.suppress(CapsuleError):
            answer = read_answer(reading, Deadline.after(_PATIENCE_S))
            assert answer.reason.isprintable()
            assert data.startswith(answer.word.encode())
    finally:
        os.close(reading)


def metadata(data: bytes) -> None:
    """Read what the instance metadata service answers; the first byte says on which path."""
    if not data:
        return
    source = SOURCES[data[0] % len(SOURCES)]
    with contextlib.suppress(MetadataError):
        for notice in translate(
            source, data[1:].decode(errors="replace"), instance="i-0123456789abcdef0", seen=SEEN
        ):
            assert notice.deadline is None or notice.deadline.tzinfo is not None


def message(data: bytes) -> None:
    """Read a message of the queue."""
    with contextlib.suppress(MessageError):
        parse_message(data.decode(errors="replace"), seen=SEEN)


def order(data: bytes) -> None:
    """Read a Checkpoint object."""
    with contextlib.suppress(KubeInvalidError, UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raw = json.loads(data)
        if isinstance(raw, dict):
            parse_order(raw)


def options(data: bytes) -> None:
    """Read what a pod's annotations ask for: one in each line, name and value with `=` between them."""
    lines = (line.partition("=") for line in data.decode(errors="replace").splitlines())
    with contextlib.suppress(AnnotationError):
        parse_options({name: value for name, _, value in lines})


def archive(data: bytes) -> None:
    """Put the files of an archive in place; nothing outside of its root changes."""
    with _folder() as folder:
        root, outside = folder / "root", folder / "outside"
        root.mkdir()
        outside.write_text("outside")
        (root / "out").symlink_to("../outside")
        opened = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        path = folder / "archive"
        path.write_bytes(data)
        where = FileArchive(image="files/0.tar", kind="tree", root="/", entries=data.count(b"ustar"))
        try:
            with path.open("rb") as source, contextlib.suppress(FilesystemError):
                apply_archive(
                    source,
                    opened,
                    where,
                    (),
                    deadline=Deadline.after(_PATIENCE_S),
                    keep="20250131T120000Z-00000000",
                )
        finally:
            os.close(opened)
        assert outside.read_text() == "outside"
        assert sorted(each.name for each in folder.iterdir()) == ["archive", "outside", "root"]


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    target.__name__.replace("_", "-"): target
    for target in (
        manifest,
        manifest_body,
        chunk,
        stream,
        open_files,
        launcher,
        job_answer,
        metadata,
        message,
        order,
        options,
        archive,
    )
}


@functools.cache
def _name_of_one_byte() -> str:
    return chunk_name(memoryview(b"\0"))


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        yield Path(folder)
