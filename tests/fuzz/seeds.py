"""Where the fuzzers begin: for each target some bytes that mean something, of which all further ones are made."""

from __future__ import annotations

import io
import json
import socket
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from crikpy import names
from crikpy.criu.framing import encode_request
from crikpy.ec2.notices import SOURCES
from crikpy.model.manifest import Extent, FileArchive, StoredImage
from crikpy.model.workload import Workload
from crikpy.store.chunks import ChunkEncoder, ChunkMemory
from crikpy.store.manifests import encode_manifest
from tests.criu import openfiles
from tests.store.images import manifest_of

FOUND: Final = Path(__file__).parent / "found"
"""What a fuzzer has found, by target; each stays for ever, as a test."""

_MESSAGES: Final = Path(__file__).parents[1] / "ec2" / "fixtures"
_WORKLOAD: Final = Workload(cluster="fuzz", namespace="default", name="train")
_ANSWERS: Final = (
    '{"action": "terminate", "time": "2025-01-31T12:02:00Z"}',
    "Terminated",
    '[{"NotBefore": "21 Jan 2025 09:00:43 GMT", "Code": "instance-stop", "EventId": "e-0", "State": "active"}]',
    '{"noticeTime": "2025-01-31T12:00:00Z"}',
)


def seeds(target: str) -> Iterator[bytes]:
    """Yield what a target begins with: made here, and found before."""
    yield from _MADE[target]()
    for path in sorted((FOUND / target).glob("*")):
        yield path.read_bytes()


def _manifests() -> Iterator[bytes]:
    chunk = "0" * 64
    images = (
        StoredImage(name="files/0.tar", size=100, extents=(Extent(chunk, 0, 100),)),
        StoredImage(name="pages-1.img", size=8192, extents=(Extent(None, 0, 4096), Extent(chunk, 100, 4096))),
    )
    whole = manifest_of(_WORKLOAD, "20250131T120000Z-00000000", images)
    archives = (FileArchive(image="files/0.tar", kind="tree", root="/tmp/x", entries=1),)
    for manifest in (whole, replace(whole, archives=archives)):
        yield encode_manifest(manifest)


def _bodies() -> Iterator[bytes]:
    for whole in _manifests():
        yield whole[whole.index(b'"manifest":') + len(b'"manifest":') : -2]


def _chunks() -> Iterator[bytes]:
    for plain, zero in ((b"\0", False), (b"a" * 8192, False), (bytes(4096) + b"b" * 4096, True)):
        memory = ChunkMemory()
        memory.plain[: len(plain)] = plain
        pages = np.zeros(-(-len(plain) // 4096), dtype=np.bool_)
        pages[0] = zero
        yield bytes(ChunkEncoder(1).encode(memory, len(plain), pages)[0])


def _requests() -> Iterator[bytes]:
    yield encode_request("inventory.img")
    yield encode_request("pages-1.img") + encode_request("x" * 200)


def _open_files() -> Iterator[bytes]:
    yield openfiles.files_image(
        openfiles.inet(1, ("10.77.1.2", 80), state=openfiles.LISTENING, device="eth0"),
        openfiles.inet(2, ("fd00:77::1", 80), ("fd00:77::1", 81), family=socket.AF_INET6),
        openfiles.pipe(3),
        openfiles.regular(4, "/etc/hosts"),
    )


def _talks() -> Iterator[bytes]:
    yield b"crikpy-launch 1 running 9001 -1\nok running 9001 -1\nevent term\nok running 9001 -1\n"
    yield b"crikpy-launch 1 waiting 0 -1\nevent ended 137\nerror held by another connection\n"
    yield b"error forbidden to all but the node's root\n"


def _job_answers() -> Iterator[bytes]:
    yield b"ready\n"
    yield b"failed RuntimeError: no room\n"
    yield b"saves\nlistens\n"


def _answers() -> Iterator[bytes]:
    for number in range(len(SOURCES)):
        for answer in _ANSWERS:
            yield bytes([number]) + answer.encode()


def _messages() -> Iterator[bytes]:
    for path in sorted(_MESSAGES.glob("*.json")):
        yield path.read_bytes()


def _orders() -> Iterator[bytes]:
    spec = {
        "podName": "train-0",
        "podUID": "0-1",
        "nodeName": "node-a",
        "containers": ["main"],
        "workload": "train",
        "trigger": "SpotInterruption",
        "deadline": "2025-01-31T12:00:00Z",
    }
    status = {
        "phase": "Complete",
        "bytes": {"memory": 1},
        "frozenDuration": "1.5s",
        "completionTime": spec["deadline"],
    }
    metadata = {"name": "train", "namespace": "default", "creationTimestamp": spec["deadline"]}
    yield json.dumps({"metadata": metadata, "spec": spec}).encode()
    yield json.dumps({"metadata": metadata, "spec": spec, "status": status}).encode()


def _options() -> Iterator[bytes]:
    yield f"{names.OPT_IN}=true\n{names.INTERVAL}=10m\n{names.PRIORITY}=5\n{names.CONTAINERS}=a,b".encode()
    yield f"{names.OPT_IN}=maybe\n{names.EXCLUDE_VOLUMES}=scratch\n{names.ON_REBALANCE}=checkpoint".encode()


def _archives() -> Iterator[bytes]:
    for links in (False, True):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name in ("folder", "folder/file", "folder/link"):
                info = tarfile.TarInfo(name)
                info.pax_headers = {"mtime": "1.5"}
                info.type = tarfile.DIRTYPE if name == "folder" else tarfile.REGTYPE
                if name.endswith("link") and links:
                    info.type, info.linkname = tarfile.SYMTYPE, "../out"
                info.size = 5 if info.isreg() else 0
                tar.addfile(info, io.BytesIO(b"bytes"))
        yield out.getvalue()


_MADE: Final = {
    "manifest": _manifests,
    "manifest-body": _bodies,
    "chunk": _chunks,
    "stream": _requests,
    "open-files": _open_files,
    "launcher": _talks,
    "job-answer": _job_answers,
    "metadata": _answers,
    "message": _messages,
    "order": _orders,
    "options": _options,
    "archive": _archives,
}
