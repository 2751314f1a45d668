"""What of earlier checkpoints a new one may lean on, so that it need not be written again.

Pure: it judges manifests that somebody else has read (checkpoints.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from crikpy.model.manifest import Manifest
from crikpy.store import layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a new checkpoint of a workload may lean on.

    Attributes:
        chunks: names of chunks that are there.
        base: the checkpoint with which it probably has most pages in common.
    """

    chunks: frozenset[str] = frozenset()
    base: Manifest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A checkpoint in quarantine: whatever is wrong with it may be wrong with its chunks.

    Attributes:
        chunks: their names.
        since: RFC 3339 time of the quarantine; empty when it is unknown.
    """

    chunks: frozenset[str]
    since: str

    def concerns(self, manifest: Manifest) -> bool:
        """Say whether the manifest may lean on what is in doubt; one begun afterwards has had it stored anew."""
        if self.chunks.isdisjoint(chunks_of(manifest)):
            return False
        try:
            return layout.time_of(manifest.checkpoint) <= datetime.fromisoformat(self.since)
        except (ValueError, TypeError):
            return True


def known(manifests: Sequence[Manifest], doubts: Collection[Doubt]) -> Known:
    """Return what may be leant on.

    Args:
        manifests: complete checkpoints that are not in quarantine, the one with most pages in common first.
        doubts: of the same workload.
    """
    chunks: set[str] = set()
    base: Manifest | None = None
    for manifest in manifests:
        concerning = [doubt.chunks for doubt in doubts if doubt.concerns(manifest)]
        chunks |= chunks_of(manifest).difference(*concerning)
        if base is None and not concerning:
            base = manifest
    return Known(chunks=frozenset(chunks), base=base)


def chunks_of(manifest: Manifest) -> frozenset[str]:
    """Return the names of all chunks that a manifest refers to."""
    return frozenset(
        extent.chunk for image in manifest.images for extent in image.extents if extent.chunk is not None
    )
