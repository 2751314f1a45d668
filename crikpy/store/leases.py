"""Who holds a job's name, for machines that have no cluster to say so: one object, renewed as long as held.

Nobody's clock is trusted. A taker compares two times that the store itself gave: that of the last renewal and
that of an object that it has just written. The holder counts from before its last successful renewal, on its own
monotonic clock, and so knows that it may have lost the name before anybody else may take it. A name given back
in order is free at once. Nobody looks whether a holder's process lives: another container of the same machine
has the same boot id and other PIDs.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import msgspec

from crikpy.aio.threads import Thread
from crikpy.errors import JobRunningError, ObjectNotFoundError, StoreError
from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore
from crikpy.store.layout import clock_key, holder_key
from crikpy.store.records import UNREADABLE, Claim, Holder

_log = logging.getLogger(__name__)
_TRIES: Final = 5
_BEATS_PER_TTL: Final = 3
_TOLERANCE_S: Final = 2.0
"""S3 tells times in whole seconds, and its servers' clocks differ a little."""

_RELEASE_WAIT_S: Final = 5.0


class Lease:
    """A name that we hold; made by `acquire`."""

    def __init__(
        self, store: ObjectStore, key: str, holder: Holder, tag: str, on_lost: Callable[[], None] | None
    ) -> None:
        self._store = store
        self._key = key
        self._holder = holder
        self._tag = tag
        self._on_lost = on_lost
        self._taken = False
        self._renewed_at = time.monotonic()
        self._stopping = threading.Event()
        self._thread = Thread(target=self._renew_for_ever, name="crikpy-lease", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(
        cls,
        store: ObjectStore,
        workload: Workload,
        claim: Claim,
        ttl_s: float,
        on_lost: Callable[[], None] | None = None,
    ) -> Lease:
        """Take a name and keep it until `release`.

        Args:
            store: where the name is kept.
            workload: the name.
            claim: who we are.
            ttl_s: seconds without a renewal after which others may take it.
            on_lost: called from a thread, once, when somebody else has taken it.

        Raises:
            JobRunningError: somebody holds it; the message says who.
            StoreError: the store could not be asked.
        """
        key = holder_key(workload)
        ours = Holder(claim=claim, beat=0, ttl_s=ttl_s, released=False)
        for _ in range(_TRIES):
            tag = _take(store, workload, key, ours)
            if tag is not None:
                return cls(store, key, ours, tag, on_lost)
        raise JobRunningError(f"{workload} is being taken by several at once", remedy="try again")

    @property
    def held(self) -> bool:
        """Whether the name is surely still ours; False for a while when the store cannot be reached."""
        return not self._taken and time.monotonic() - self._renewed_at < self._holder.ttl_s

    def release(self) -> None:
        """Give the name back, so that the next one gets it at once; a failure only makes it free later."""
        self._stopping.set()
        self._thread.join(_RELEASE_WAIT_S)
        if self._taken:
            return
        try:
            if self._write(replace(self._holder, released=True)) is None:
                _log.warning("the name was not ours any more", extra={"key": self._key})
        except StoreError as fault:
            _log.warning("the name could not be given back: %s", fault, extra={"key": self._key})

    def _renew_for_ever(self) -> None:
        while not self._stopping.wait(self._holder.ttl_s / _BEATS_PER_TTL):
            begun = time.monotonic()
            try:
                tag = self._write(replace(self._holder, beat=self._holder.beat + 1))
            except StoreError as fault:
                _log.warning("the name could not be renewed: %s", fault, extra={"key": self._key})
                continue
            if tag is None:
                self._lose()
                return
            self._renewed_at = begun

    def _write(self, holder: Holder) -> str | None:
        tag = self._store.replace(self._key, msgspec.json.encode(holder), self._tag)
        if tag is not None:
            self._holder, self._tag = holder, tag
        return tag

    def _lose(self) -> None:
        self._taken = True
        _log.error("somebody else has taken the name", extra={"key": self._key})
        if self._on_lost is not None:
            self._on_lost()


def require_untaken(store: ObjectStore, workload: Workload, token: str) -> None:
    """See that nobody has taken a name since somebody took it by a claim with this token, held still or not.

    A machine that stood still for long may come back with a job whose name, and checkpoint, are another's by now.

    Raises:
        JobRunningError: somebody has; the message says who.
        StoreError: the store does not tell.
    """
    try:
        other = _decode(store.get_tagged(holder_key(workload))[0], 0.0).claim
    except ObjectNotFoundError:
        return
    if other.token != token:
        raise JobRunningError(
            f"the name {workload} was taken over by {other}, since this machine was not heard of",
            remedy="the job runs on here, but is not saved any more; end it if the other one is to go on",
        )


def _take(store: ObjectStore, workload: Workload, key: str, ours: Holder) -> str | None:
    """Try once; return the tag, or None when another one was quicker or the object has just vanished."""
    data = msgspec.json.encode(ours)
    absent = store.put_if_absent(key, data)
    try:
        found, tag = store.get_tagged(key)
    except ObjectNotFoundError:
        return None
    if absent:
        return tag if found == data else None
    holder = _decode(found, ours.ttl_s)
    if not holder.released:
        left = holder.ttl_s + _TOLERANCE_S - _age(store, workload, key)
        if left > 0:
            raise JobRunningError(
                f"{workload} runs on {holder.claim}",
                remedy=f"if that machine is gone, try again in {left:.0f} s",
            )
    return store.replace(key, data, tag)


def _age(store: ObjectStore, workload: Workload, key: str) -> float:
    """Return the seconds since an object was last written, by the store's clock; 0 when it has vanished."""
    clock = clock_key(workload, secrets.token_hex(8))
    store.put(clock, b"")
    try:
        times = {info.key: info.modified for one in (key, clock) for info in store.list(one)}
    finally:
        with contextlib.suppress(StoreError):
            store.delete(clock)
    if key not in times or clock not in times:
        return 0.0
    return (times[clock] - times[key]).total_seconds()


def _decode(data: bytes, ttl_s: float) -> Holder:
    """Return the holder; a damaged record means that somebody holds it, for as long as we would."""
    try:
        return msgspec.json.decode(data, type=Holder)
    except msgspec.DecodeError:
        return Holder(claim=UNREADABLE, beat=0, ttl_s=ttl_s, released=False)
