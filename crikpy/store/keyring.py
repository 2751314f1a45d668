"""A data key for each workload, kept beside what it seals, itself wrapped by a key that never leaves KMS.

docs/formats.md, "Keyring". Whoever comes first makes the key and all others find it, by conditional writes; each
process has it unwrapped once and keeps it in memory, nowhere else. A wrapped key opens for its own workload of its
own store only. Chunks are shared within a workload, hence so are its keys. Nothing here talks to AWS (kms.py), and
nothing here removes a key: what it has sealed would be lost.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import msgspec

from crikpy.aio import retrying
from crikpy.aio.clock import Deadline
from crikpy.errors import FormatVersionError, IntegrityError, ObjectNotFoundError, StoreUnavailableError
from crikpy.model.workload import Workload
from crikpy.settings import StoreSettings
from crikpy.store import layout
from crikpy.store.base import ObjectStore
from crikpy.store.keys import KEY_BYTES, Key
from crikpy.store.records import now

_log = logging.getLogger(__name__)

_FORMAT: Final = 1
_TRIES: Final = 4
"""Of as many agents that make a key for one workload at once, the last finds what another has made."""

_TRIAL: Final = "crikpy-check"
"""Stands for a workload where it is only tried whether keys can be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedKey:
    """What KMS has given for a new data key.

    Attributes:
        secret: the data key.
        wrapped: the same, as only KMS can read it.
        by: ARN of the KMS key.
    """

    secret: bytes = field(repr=False)
    wrapped: bytes
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnwrappedKey:
    """What KMS has made of a wrapped key.

    Attributes:
        secret: the data key.
        current: the KMS key that wraps new ones has wrapped it.
    """

    secret: bytes = field(repr=False)
    current: bool


class Wrapper(Protocol):
    """Whoever wraps data keys. Each call asks once, tries nothing again, and raises what an ObjectStore's may."""

    def make(self, context: Mapping[str, str]) -> WrappedKey:
        """Return a new data key of 32 bytes, bound to a context."""
        ...

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> UnwrappedKey:
        """Return the data key.

        Raises:
            IntegrityError: no key of ours has wrapped this for this context.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    """What a reader looks at before anything else."""

    format: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One data key in a keyring; `id` in hex, as objects name it, and `wrapped` in base64."""

    id: str
    kms: str
    made: str
    wrapped: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keyring:
    """All data keys of a workload, the newest first."""

    format: int
    keys: tuple[_Entry, ...]


@dataclass(slots=True)
class _Opened:
    """What this process has learnt of the keys of one workload.

    Attributes:
        turn: held by whoever asks for them, so that each is asked for once.
        keys: those that were unwrapped, by their ids.
        current: ids of those that the KMS key of today has wrapped.
        sealing: the one that seals.
    """

    turn: threading.Lock = field(default_factory=threading.Lock)
    keys: dict[bytes, Key] = field(default_factory=dict)
    current: set[bytes] = field(default_factory=set)
    sealing: Key | None = None


class Keyrings:
    """The keys of a store (keys.KeySource), each workload with its own."""

    def __init__(self, store: ObjectStore, wrapper: Wrapper, settings: StoreSettings) -> None:
        """Take the store without its seals."""
        self._store = store
        self._wrapper = wrapper
        self._patience_s = settings.request_timeout_s
        self._life = timedelta(days=settings.data_key_days)
        self._lock = threading.Lock()
        self._opened: dict[str, _Opened] = {}

    def sealing(self, place: str) -> Key:
        """Return the newest key of the workload, as it was when it was last made ready."""
        workload = layout.workload_of_key(place)
        return self._of(workload).sealing or self._made_ready(workload, self._patience())

    def opening(self, place: str, name: bytes) -> Key:
        """Return the key of that id out of the workload's keyring."""
        workload = layout.workload_of_key(place)
        found = self._of(workload).keys.get(name)
        if found is not None:
            return found
        return self._found(workload, place, name, self._patience())

    def make_ready(self, workload: Workload, deadline: Deadline) -> None:
        """See that the key which seals stands in the keyring and is not too old; make one where it does not."""
        self._made_ready(str(workload), deadline.earlier(self._patience_s))

    def check(self) -> None:
        """Have a key made and unwrapped, for no workload."""
        deadline, context = self._patience(), self._context(_TRIAL)
        made = self._made(_TRIAL, deadline)
        retrying.call(lambda: self._wrapper.unwrap(made.wrapped, context), deadline=deadline)

    def close(self) -> None:
        """Let the connections to KMS go."""
        self._wrapper.close()

    def _made_ready(self, workload: str, deadline: Deadline) -> Key:
        opened = self._of(workload)
        with _turn(opened, deadline):
            opened.sealing = self._newest(workload, opened, deadline)
            return opened.sealing

    def _newest(self, workload: str, opened: _Opened, deadline: Deadline) -> Key:
        """Return the newest listed key that may seal, or one that is made and listed now."""
        for _ in range(_TRIES):
            ring, tag = self._read(workload)
            for entry in filter(self._is_young, ring.keys):
                with contextlib.suppress(IntegrityError):  # of a KMS key that we do not know, or a copied keyring
                    key = self._unwrapped(workload, opened, entry, deadline)
                    if key.id in opened.current:
                        return key
            try:
                made = self._made(workload, deadline)
            except StoreUnavailableError as fault:
                if opened.sealing is None or opened.sealing.id not in map(_id, ring.keys):
                    raise
                # Better sealed by a key that is past its time than not saved.
                _log.warning("no new data key: %s", fault, extra={"workload": workload})
                return opened.sealing
            key = Key.of(_checked(made.secret))
            entry = _Entry(id=key.id.hex(), kms=made.by, made=now(), wrapped=made.wrapped)
            if self._is_listed(workload, _Keyring(format=_FORMAT, keys=(entry, *ring.keys)), tag):
                opened.keys[key.id] = key
                opened.current.add(key.id)
                _log.info("a data key was made", extra={"workload": workload, "key": entry.id, "kms": made.by})
                return key
        raise StoreUnavailableError(f"the keyring of {workload} is changed by others all the time")

    def _found(self, workload: str, place: str, name: bytes, deadline: Deadline) -> Key:
        opened = self._of(workload)
        with _turn(opened, deadline):
            if name in opened.keys:
                return opened.keys[name]
            ring, _ = self._read(workload)
            entry = next((entry for entry in ring.keys if entry.id == name.hex()), None)
            if entry is None:
                raise IntegrityError(f"{place} is sealed with a key that its workload's keyring does not list")
            return self._unwrapped(workload, opened, entry, deadline)

    def _made(self, workload: str, deadline: Deadline) -> WrappedKey:
        return retrying.call(lambda: self._wrapper.make(self._context(workload)), deadline=deadline)

    def _unwrapped(self, workload: str, opened: _Opened, entry: _Entry, deadline: Deadline) -> Key:
        known = opened.keys.get(_id(entry))
        if known is not None:
            return known
        context = self._context(workload)
        answer = retrying.call(lambda: self._wrapper.unwrap(entry.wrapped, context), deadline=deadline)
        key = Key.of(_checked(answer.secret))
        if key.id.hex() != entry.id:
            raise IntegrityError(f"the keyring of {workload} lists a key under another's name")
        opened.keys[key.id] = key
        if answer.current:
            opened.current.add(key.id)
        return key

    def _read(self, workload: str) -> tuple[_Keyring, str | None]:
        """Return a keyring with the tag to replace it by; an empty one without a tag where there is none."""
        try:
            data, tag = self._store.get_tagged(layout.keyring_key(workload))
        except ObjectNotFoundError:
            return _Keyring(format=_FORMAT, keys=()), None
        try:
            if msgspec.json.decode(data, type=_Format).format != _FORMAT:
                raise FormatVersionError(
                    f"the keyring of {workload} has another format", remedy="use a newer release of crikpy"
                )
            return msgspec.json.decode(data, type=_Keyring), tag
        except msgspec.DecodeError as damaged:
            raise IntegrityError(
                f"the keyring of {workload} is damaged: {damaged}",
                remedy="put an earlier version of keyring.json back; or remove it, and what it sealed is lost",
            ) from damaged

    def _is_listed(self, workload: str, ring: _Keyring, tag: str | None) -> bool:
        """Write a keyring unless another was written meanwhile; say whether it was written."""
        key, data = layout.keyring_key(workload), msgspec.json.encode(ring) + b"\n"
        if tag is None:
            return self._store.put_if_absent(key, data)
        return self._store.replace(key, data, tag) is not None

    def _is_young(self, entry: _Entry) -> bool:
        try:
            made = datetime.fromisoformat(entry.made)
        except ValueError:
            return False
        return made.tzinfo is not None and datetime.now(UTC) - made < self._life

    def _context(self, workload: str) -> Mapping[str, str]:
        return context_of(self._store.url, workload)

    def _of(self, workload: str) -> _Opened:
        with self._lock:
            return self._opened.setdefault(workload, _Opened())

    def _patience(self) -> Deadline:
        return Deadline.after(self._patience_s)


def context_of(store_url: str, workload: str) -> Mapping[str, str]:
    """Return what a wrapped key is bound to; no secret: policies may ask for it, and CloudTrail shows it."""
    return {"crikpy-store": store_url, "crikpy-workload": workload}


@contextlib.contextmanager
def _turn(opened: _Opened, deadline: Deadline) -> Iterator[None]:
    if not opened.turn.acquire(timeout=deadline.remaining()):
        raise StoreUnavailableError("out of time while another thread asked KMS for the same key")
    try:
        yield
    finally:
        opened.turn.release()


def _id(entry: _Entry) -> bytes:
    try:
        return bytes.fromhex(entry.id)
    except ValueError:
        return b""


def _checked(secret: bytes) -> bytes:
    if len(secret) != KEY_BYTES:
        raise IntegrityError(f"a data key has {len(secret)} bytes instead of {KEY_BYTES}")
    return secret
