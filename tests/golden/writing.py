"""Writes the checkpoints that later releases must be able to read: `python -m tests.golden.writing FOLDER`.

Run once for each release that changes what is stored, into a folder of its name beside this file; what is there is
never written again. One workload is plain, one sealed with the key below. The bytes are made, not taken from a
machine: what is golden is the store, not the job.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from crikpy.model.workload import Workload
from crikpy.settings import StoreSettings
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.keys import HeldKeys, Key
from crikpy.store.local import LocalStore
from crikpy.store.recalling import KnownPages
from crikpy.store.records import Claim
from crikpy.store.sealing import SealedStore
from tests.store.images import manifest_of, noise, store_images

PLAIN: Final = Workload(cluster="plain", namespace="default", name="train")
SEALED: Final = Workload(cluster="plain", namespace="default", name="sealed")
KEY: Final = Key.of(hashlib.sha256(b"golden").digest())
FIRST, SECOND, THIRD = "20250131T120000Z-00000001", "20250131T130000Z-00000002", "20250131T140000Z-00000003"
_PAGE: Final = 4096


def images(generation: int) -> Mapping[str, bytes]:
    """Return the images of a checkpoint: small ones, zeros here and there, and more than a chunk with an index."""
    sparse = b"".join(
        noise(64, seed=page).ljust(_PAGE, b"\0") if page % 3 else bytes(_PAGE) for page in range(2100)
    )
    changed = bytearray(sparse)
    for page in range(0, 2100, 97):
        changed[page * _PAGE : page * _PAGE + 8] = generation.to_bytes(8, "big")
    return {
        "inventory.img": b"inventory",
        "files/0.tar": noise(1500, seed=1),
        "core-1.img": f"generation {generation} ".encode() * 200,
        "pages-1.img": bytes(changed) + b"the last page is short",
        "pages-2.img": bytes(3 * _PAGE),
    }


def settings() -> StoreSettings:
    """Return settings that no machine changes."""
    return StoreSettings(memory_bytes=256 * 1024 * 1024, transfers=2)


def write(store: ObjectStore, workload: Workload) -> None:
    """Write three checkpoints: one that was resumed, one in quarantine, and one that leans on the first."""
    checkpoints = Checkpoints(store, workload)
    first = store_images(store, workload, images(1), settings=settings())
    base = manifest_of(workload, FIRST, (*first.images, *first.indexes), first.sizes)
    checkpoints.commit(base)
    checkpoints.claim(FIRST, Claim.ours())
    checkpoints.commit(manifest_of(workload, SECOND))
    checkpoints.quarantine(SECOND, "golden")
    pages = KnownPages(store, workload, base)
    third = store_images(store, workload, images(3), pages=pages, settings=settings())
    checkpoints.commit(manifest_of(workload, THIRD, (*third.images, *third.indexes), third.sizes))


def main() -> None:
    """Write both workloads into a new folder."""
    folder = Path(sys.argv[1])
    folder.mkdir()
    store = LocalStore(folder)
    write(store, PLAIN)
    write(SealedStore(store, HeldKeys([KEY])), SEALED)


if __name__ == "__main__":
    main()
