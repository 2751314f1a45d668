"""Where things lie in a store: keys only, no access. docs/formats.md is the authority.

<cluster>/<namespace>/<workload>/chunks/<hh>/<hash>
<cluster>/<namespace>/<workload>/checkpoints/<id>/{started,manifest,claim,quarantine}.json
<cluster>/<namespace>/<workload>/holder.json
<cluster>/<namespace>/<workload>/keyring.json
<cluster>/<namespace>/<workload>/clock-<token>
<cluster>/<namespace>/_group-<group>/sets/<set>/...
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta

from crikpy import names
from crikpy.errors import UsageError
from crikpy.model.workload import Workload

COLLECTING = "collecting.json"
"""Says that chunks are being removed, so that who writes a checkpoint sees to it that his are still there."""

KEYRING = "keyring.json"
"""Lists the wrapped keys of a workload (keyring.py)."""

STARTED = "started.json"
"""Says that a checkpoint is being written, so that nobody collects what it is about to refer to."""

_GROUP = "_group-"
"""What the folder of a group begins with, and that of no pod: names of Kubernetes begin with a letter or digit."""

_CHECKPOINT = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
_CHUNK = re.compile(r"[0-9a-f]{64}")


def parse_workload(*, cluster: str, namespace: str, name: str) -> Workload:
    """Return the workload that a user named.

    Raises:
        UsageError: a part cannot be part of a key; the message says what is allowed.
    """
    try:
        return Workload(cluster=cluster, namespace=namespace, name=name)
    except ValueError as fault:
        raise UsageError(str(fault)) from fault


def new_checkpoint_id(now: datetime | None = None) -> str:
    """Return a new id, `YYYYMMDDTHHMMSSZ-<8 hex>`: later ids sort after earlier ones.

    The first four digits are the fraction of the second in 65536ths, the others are random.
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    fraction = moment.microsecond * 65536 // 1_000_000
    return f"{moment:%Y%m%dT%H%M%SZ}-{fraction:04x}{secrets.token_hex(2)}"


def time_of(checkpoint: str) -> datetime:
    """Return when a checkpoint's id was made, aware UTC, at most 16 microseconds too early.

    Raises:
        ValueError: it is not an id.
    """
    second, _, digits = checkpoint.partition("-")
    fraction = timedelta(seconds=int(digits[:4], 16) / 65536)
    return datetime.strptime(second, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) + fraction


def is_checkpoint_id(text: str) -> bool:
    """Say whether it has the form of an id."""
    return _CHECKPOINT.fullmatch(text) is not None


def is_chunk_name(text: str) -> bool:
    """Say whether it has the form of a chunk's name: 64 lower-case hex digits."""
    return _CHUNK.fullmatch(text) is not None


def chunk_key(workload: Workload, chunk: str) -> str:
    """Return the key of a chunk; spread over 256 folders for the sake of directories."""
    return f"{workload}/chunks/{chunk[:2]}/{chunk}"


def is_chunk_key(key: str) -> bool:
    """Say whether a chunk of some workload has that key."""
    return key.count("/") == 5 and key.split("/")[3] == "chunks"


def is_manifest_key(key: str) -> bool:
    """Say whether a manifest of some workload has that key."""
    parts = key.split("/")
    return len(parts) == 6 and parts[3] == "checkpoints" and parts[5] == names.MANIFEST


def chunks_prefix(workload: Workload) -> str:
    """Return what the keys of all chunks of a workload start with."""
    return f"{workload}/chunks/"


def checkpoint_prefix(workload: Workload, checkpoint: str) -> str:
    """Return what the keys of everything about one checkpoint start with.

    Raises:
        UsageError: that is not a checkpoint's id.
    """
    if not is_checkpoint_id(checkpoint):
        raise UsageError(f"{checkpoint!r} is not the id of a checkpoint, such as 20250131T120000Z-0123abcd")
    return f"{workload}/checkpoints/{checkpoint}/"


def checkpoints_prefix(workload: Workload) -> str:
    """Return what the keys about all checkpoints of a workload start with."""
    return f"{workload}/checkpoints/"


def manifest_key(workload: Workload, checkpoint: str) -> str:
    """Return the key whose presence means that the checkpoint is complete."""
    return checkpoint_prefix(workload, checkpoint) + names.MANIFEST


def claim_key(workload: Workload, checkpoint: str) -> str:
    """Return the key of the record of who resumed the checkpoint."""
    return checkpoint_prefix(workload, checkpoint) + names.CLAIM


def quarantine_key(workload: Workload, checkpoint: str) -> str:
    """Return the key of the record of why the checkpoint must not be used."""
    return checkpoint_prefix(workload, checkpoint) + names.QUARANTINE


def started_key(workload: Workload, checkpoint: str) -> str:
    """Return the key of the record that the checkpoint is being written."""
    return checkpoint_prefix(workload, checkpoint) + STARTED


def collecting_key(workload: Workload) -> str:
    """Return the key of the record that chunks are being removed."""
    return f"{workload}/{COLLECTING}"


def holder_key(workload: Workload) -> str:
    """Return the key of the lease on the workload's name."""
    return f"{workload}/{names.HOLDER}"


def keyring_key(workload: Workload | str) -> str:
    """Return the key of the wrapped data keys with which a workload's chunks and manifests are sealed."""
    return f"{workload}/{KEYRING}"


def workload_of_key(key: str) -> str:
    """Return the workload, as text, to which a key of one of its objects belongs."""
    return "/".join(key.split("/")[:3])


def group_folder(group: str) -> str:
    """Return the name of the folder in which the pods of a group speak to each other."""
    return _GROUP + group


def is_group_folder(name: str) -> bool:
    """Say whether a folder is that of a group, and of no workload."""
    return name.startswith(_GROUP)


def clock_key(workload: Workload, token: str) -> str:
    """Return the key of an object that lives for a moment, to learn the time by the store's clock."""
    return f"{workload}/clock-{token}"
