"""The checkpoints of one workload: written, listed, claimed, put into quarantine, removed.

What makes a checkpoint one is its manifest, written last and only if there is none; what makes a resumption the
only one is its claim, written only if there is none. Everything else here is reading.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeVar

import msgspec

from crikpy import names
from crikpy.aio.clock import Deadline
from crikpy.aio.threads import Pool
from crikpy.errors import (
    CheckpointClaimedError,
    CheckpointNotFoundError,
    FormatVersionError,
    IntegrityError,
    ObjectNotFoundError,
    StoreError,
    StoreUnavailableError,
)
from crikpy.model.manifest import Manifest
from crikpy.model.workload import Workload
from crikpy.store import collecting, layout, trusting
from crikpy.store.base import ObjectStore
from crikpy.store.manifests import Whose, decode_manifest, encode_manifest, read_whose
from crikpy.store.records import FINISHED, UNREADABLE, CheckpointSummary, Claim, Quarantine, now
from crikpy.store.trusting import Doubt, Known, chunks_of

__all__ = ["CheckpointSummary", "Checkpoints", "Claim", "Quarantine", "list_workloads"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_READERS: Final = 8
_TRUSTED_MANIFESTS: Final = 2
_DOUBTED: Final = 4
"""Checkpoints in quarantine whose chunks are not leant on; a job does not fail more often in a row."""

_LOOKED_AT: Final = 32
"""Checkpoints among which that of a pod is looked for; before a job is stopped there is not time for all."""


class Checkpoints:
    """Every checkpoint of a workload.

    Attributes:
        store: where they lie.
        workload: whose they are.
    """

    def __init__(self, store: ObjectStore, workload: Workload) -> None:
        self.store = store
        self.workload = workload
        self._was_collected = False

    def begin(
        self, claim: Claim, checkpoint: str = "", *, pod_uid: str = "", deadline: Deadline | None = None
    ) -> tuple[str, Known]:
        """Announce a new checkpoint; return its id and what need not be written again.

        As long as the announcement stands without a manifest, nobody collects chunks of the workload (gc.py).

        Args:
            claim: who writes it.
            checkpoint: its id, where it is one with checkpoints of other workloads; empty makes a new one.
            pod_uid: the pod whose job it is, or empty; its own last checkpoint has most in common with it.
            deadline: until when others may be asked for what the store needs of them; None leaves it to the store.
        """
        self.store.make_ready(self.workload, deadline or Deadline(math.inf))
        checkpoint = checkpoint or layout.new_checkpoint_id()
        self.store.put(layout.started_key(self.workload, checkpoint), msgspec.json.encode(claim))
        self._was_collected = collecting.is_under_way(self.store, self.workload)
        return checkpoint, self.known(pod_uid=pod_uid)

    def give_up(self, checkpoint: str) -> None:
        """Take the announcement back, after a failure."""
        self.store.delete(layout.started_key(self.workload, checkpoint))

    def withdraw(self, checkpoint: str, reason: str) -> None:
        """Undo what is there of a checkpoint of ours: quarantine one that is complete, else give it up."""
        if names.MANIFEST in self._parts(checkpoint):
            self.quarantine(checkpoint, reason)
        else:
            self.give_up(checkpoint)

    def commit(self, manifest: Manifest) -> None:
        """Make the checkpoint complete; on return it is, whatever happens to this machine.

        Raises:
            StoreError: there is another manifest in its place.
            StoreUnavailableError: the store was lost on the way, and whether the manifest stands is unknown; or
                chunks were removed meanwhile.
        """
        if self._was_collected:
            collecting.require_chunks(self.store, self.workload, chunks_of(manifest))
        key = layout.manifest_key(self.workload, manifest.checkpoint)
        data = encode_manifest(manifest)
        try:
            written = self.store.put_if_absent(key, data)
        except StoreUnavailableError as lost:
            if not self._holds(key, data):
                raise StoreUnavailableError(f"the checkpoint may not be complete: {lost.message}") from lost
            return
        if not written and not self._holds(key, data):
            raise StoreError(f"checkpoint {manifest.checkpoint} exists already with other content")

    def complete(self, *, unclaimed: bool = False) -> frozenset[str]:
        """Return the ids of all checkpoints with a manifest, or of those among them that nobody has claimed."""
        return frozenset(
            checkpoint
            for checkpoint, parts in self._found().items()
            if names.MANIFEST in parts and not (unclaimed and names.CLAIM in parts)
        )

    def list(self, among: Collection[str] | None = None) -> list[CheckpointSummary]:
        """Return every checkpoint, or those with the given ids, the newest first."""
        found = {
            checkpoint: parts
            for checkpoint, parts in self._found().items()
            if among is None or checkpoint in among
        }
        with Pool(_READERS) as readers:
            return list(readers.map(self._summary, found, found.values()))

    def summary(self, checkpoint: str) -> CheckpointSummary:
        """Return what a listing would show of one checkpoint.

        Raises:
            CheckpointNotFoundError: there is nothing of it at all.
        """
        parts = self._parts(checkpoint)
        if not parts:
            raise self._absent(checkpoint)
        return self._summary(checkpoint, parts)

    def newest_complete(self) -> CheckpointSummary | None:
        """Return the newest checkpoint with a manifest, whatever else is true of it."""
        for checkpoint, parts in self._found().items():
            if names.MANIFEST in parts:
                return self._summary(checkpoint, parts)
        return None

    def newest_resumable(self) -> Manifest | None:
        """Return the newest complete checkpoint that nobody has claimed and that is not in quarantine.

        An older one stands in for a newer one that was used up or is damaged: less is lost than from the
        beginning. One of a newer format is not passed over, since a newer release could resume it.

        Raises:
            FormatVersionError: it was written by a newer release.
            IntegrityError: there is one, but it and all older ones are damaged.
        """
        damaged: IntegrityError | None = None
        for checkpoint, parts in self._found().items():
            if names.MANIFEST not in parts or parts & {names.CLAIM, names.QUARANTINE}:
                continue
            try:
                return self.manifest(checkpoint)
            except IntegrityError as fault:
                _log.warning("a checkpoint is passed over", extra={"checkpoint": checkpoint, "why": str(fault)})
                damaged = damaged or fault
            except CheckpointNotFoundError:
                continue
        if damaged is not None:
            raise damaged
        return None

    def manifest(self, checkpoint: str) -> Manifest:
        """Return a checkpoint's manifest.

        Raises:
            CheckpointNotFoundError: there is none, so the checkpoint is not complete.
            FormatVersionError: a newer release wrote it.
            IntegrityError: it is damaged, or that of something else.
        """
        try:
            manifest = self._read_manifest(checkpoint)
        except IntegrityError as damaged:
            _log.warning("a manifest came damaged and is read once more: %s", damaged)
            manifest = self._read_manifest(checkpoint)
        if manifest.checkpoint != checkpoint or manifest.workload != str(self.workload):
            raise IntegrityError(
                f"the manifest of {checkpoint} is that of {manifest.workload} {manifest.checkpoint}"
            )
        return manifest

    def known(self, newest: int = _TRUSTED_MANIFESTS, *, pod_uid: str = "") -> Known:
        """Return what the newest complete checkpoints hold, and the newest one of a pod.

        Those in quarantine do not count, nor does what the others have in common with the newest of them.
        """
        complete = {found: parts for found, parts in self._found().items() if names.MANIFEST in parts}
        doubted = [checkpoint for checkpoint, parts in complete.items() if names.QUARANTINE in parts]
        trusted = [checkpoint for checkpoint in complete if checkpoint not in set(doubted)]
        own = self._newest_of(pod_uid, trusted[:_LOOKED_AT]) if pod_uid else None
        manifests = [*([own] if own else []), *self._readable(trusted[:newest])]
        return trusting.known(manifests, [self._doubt(each) for each in self._readable(doubted[:_DOUBTED])])

    def claim(self, checkpoint: str, claim: Claim) -> None:
        """Take the checkpoint for resumption; this succeeds for one claim in its life, as often as that is tried.

        Raises:
            CheckpointClaimedError: naming who took it.
        """
        if self.lay(checkpoint, claim):
            return
        other = self._claim(checkpoint) or UNREADABLE
        if other == claim:
            return
        what = "belongs to a job that has finished on" if other.outcome == FINISHED else "was resumed on"
        raise CheckpointClaimedError(
            f"checkpoint {checkpoint} of {self.workload} {what} {other}",
            remedy="a checkpoint is resumed at most once",
        )

    def retire(self, claim: Claim) -> None:
        """Claim everything that is left, because the job has finished: nobody resumes what is done."""
        for checkpoint in self.complete(unclaimed=True):
            self.lay(checkpoint, claim.finished())

    def quarantine(self, checkpoint: str, reason: str) -> None:
        """Say that the checkpoint must not be used, and why; the first reason stays."""
        record = Quarantine(reason=reason, time=now())
        key = layout.quarantine_key(self.workload, checkpoint)
        self.store.put_if_absent(key, msgspec.json.encode(record))

    def remove(self, checkpoint: str) -> None:
        """Remove a checkpoint, its manifest first; its chunks are left to crikpy.store.gc."""
        prefix = layout.checkpoint_prefix(self.workload, checkpoint)
        self.store.delete(layout.manifest_key(self.workload, checkpoint))
        for info in list(self.store.list(prefix)):
            self.store.delete(info.key)

    def _read_manifest(self, checkpoint: str) -> Manifest:
        try:
            return decode_manifest(bytes(self.store.get(layout.manifest_key(self.workload, checkpoint))))
        except ObjectNotFoundError as absent:
            raise self._absent(checkpoint) from absent

    def _whose(self, checkpoint: str) -> Whose:
        """Return whose a checkpoint is that cannot be read, so that nobody overlooks it."""
        try:
            return read_whose(bytes(self.store.get(layout.manifest_key(self.workload, checkpoint))))
        except (ObjectNotFoundError, FormatVersionError):
            return Whose()

    def _newest_of(self, pod_uid: str, checkpoints: Sequence[str]) -> Manifest | None:
        """Return the first of these manifests that is a pod's, a few at a time since each is a request."""
        for start in range(0, len(checkpoints), _READERS):
            for manifest in self._readable(checkpoints[start : start + _READERS]):
                if manifest.origin.pod_uid == pod_uid:
                    return manifest
        return None

    def _readable(self, checkpoints: Sequence[str]) -> Iterator[Manifest]:
        """Yield the manifests, in this order, of those that have one to be believed."""

        def read(checkpoint: str) -> Manifest | None:
            try:
                return self.manifest(checkpoint)
            except (IntegrityError, FormatVersionError, CheckpointNotFoundError) as fault:
                _log.warning(
                    "no chunks of a checkpoint are reused", extra={"checkpoint": checkpoint, "why": fault}
                )
                return None

        with Pool(_READERS) as readers:
            yield from filter(None, readers.map(read, checkpoints))

    def lay(self, checkpoint: str, claim: Claim) -> bool:
        """Write a claim unless there is one; say whether it was written."""
        key = layout.claim_key(self.workload, checkpoint)
        return self.store.put_if_absent(key, msgspec.json.encode(claim))

    def _parts(self, checkpoint: str) -> set[str]:
        """Return the names of the records of one checkpoint."""
        prefix = layout.checkpoint_prefix(self.workload, checkpoint)
        return {info.key.removeprefix(prefix) for info in self.store.list(prefix)}

    def _found(self) -> dict[str, set[str]]:
        """Return the names of the records of each checkpoint, the newest checkpoint first."""
        prefix = layout.checkpoints_prefix(self.workload)
        found: dict[str, set[str]] = defaultdict(set)
        for info in self.store.list(prefix):
            checkpoint, _, name = info.key.removeprefix(prefix).partition("/")
            if layout.is_checkpoint_id(checkpoint):
                found[checkpoint].add(name)
        return dict(sorted(found.items(), reverse=True))

    def _summary(self, checkpoint: str, parts: set[str]) -> CheckpointSummary:
        summary = CheckpointSummary(
            id=checkpoint,
            complete=names.MANIFEST in parts,
            claim=self._claim(checkpoint) if names.CLAIM in parts else None,
            quarantine=self._quarantine(checkpoint) if names.QUARANTINE in parts else None,
        )
        if not summary.complete:
            return summary
        try:
            manifest = self.manifest(checkpoint)
        except CheckpointNotFoundError:
            return replace(summary, complete=False)
        except IntegrityError as fault:
            return replace(summary, fault=str(fault))
        except FormatVersionError as fault:
            whose = self._whose(checkpoint)
            return replace(
                summary, fault=str(fault), pod=whose.pod, pod_uid=whose.pod_uid, together=whose.together
            )
        return replace(
            summary,
            created=manifest.created,
            host=manifest.origin.host,
            trigger=manifest.origin.trigger,
            pod=manifest.origin.pod,
            pod_uid=manifest.origin.pod_uid,
            together=manifest.origin.together,
            group=manifest.origin.group,
            set=manifest.origin.set,
            sizes=manifest.sizes,
        )

    def _claim(self, checkpoint: str) -> Claim | None:
        return self._record(layout.claim_key(self.workload, checkpoint), Claim, UNREADABLE)

    def _quarantine(self, checkpoint: str) -> Quarantine | None:
        unreadable = Quarantine(reason="unreadable", time="")
        return self._record(layout.quarantine_key(self.workload, checkpoint), Quarantine, unreadable)

    def _doubt(self, manifest: Manifest) -> Doubt:
        record = self._quarantine(manifest.checkpoint)
        return Doubt(chunks=chunks_of(manifest), since=record.time if record else "")

    def _record(self, key: str, kind: type[_T], unreadable: _T) -> _T | None:
        """Return a record; a damaged one still says that there is one."""
        try:
            return msgspec.json.decode(self.store.get(key), type=kind)
        except ObjectNotFoundError:
            return None
        except msgspec.DecodeError:
            return unreadable

    def _holds(self, key: str, data: bytes) -> bool:
        try:
            return self.store.get(key) == data
        except StoreError:
            return False

    def _absent(self, checkpoint: str) -> CheckpointNotFoundError:
        return CheckpointNotFoundError(
            f"{self.store.url} has no complete checkpoint {checkpoint} of {self.workload}",
            remedy="crikpy list shows what there is",
        )


def list_workloads(
    store: ObjectStore, *, cluster: str | None = None, namespace: str | None = None
) -> list[Workload]:
    """Return every workload that the store knows, of one cluster and of one namespace if they are given."""
    found = []
    for one_cluster in [cluster] if cluster else list(store.folders("")):
        for one_namespace in [namespace] if namespace else list(store.folders(f"{one_cluster}/")):
            for name in store.folders(f"{one_cluster}/{one_namespace}/"):
                if layout.is_group_folder(name):
                    continue
                with contextlib.suppress(ValueError):  # a folder of somebody else's
                    found.append(Workload(cluster=one_cluster, namespace=one_namespace, name=name))
    return sorted(found)
