"""How large the manifest of a large job is, fresh and in many pieces, and how long it takes to write and read."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from measuring import Cost, Table, cost_of, interleave, machine, publish, rows_of, runs_option

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from crikpy.model.manifest import Extent, Manifest, StoredImage
from crikpy.model.workload import Workload
from crikpy.store.chunks import CHUNK_BYTES
from crikpy.store.comparing import MOST_PIECES
from crikpy.store.manifests import decode_manifest, encode_manifest
from tests.store.images import manifest_of

PIECES = 64
"""Of each chunk that is in pieces, where pages of later checkpoints lie among the old ones."""


def manifest_for(gib: int, pieces: int) -> Manifest:
    """Return the manifest of a job of so many GiB, some chunks of which are in pieces, so many in all."""
    torn = pieces // PIECES
    extents = tuple(
        Extent(hashlib.sha256(f"{chunk} {piece % 2}".encode()).hexdigest(), piece * length, length)
        for chunk in range(gib * 1024**3 // CHUNK_BYTES)
        for length in [CHUNK_BYTES // PIECES if chunk < torn else CHUNK_BYTES]
        for piece in range(CHUNK_BYTES // length)
    )
    image = StoredImage(name="pages-1.img", size=gib * 1024**3, extents=extents)
    workload = Workload(cluster="bench", namespace="bench", name="bench")
    return manifest_of(workload, "20250131T120000Z-00000000", (image,))


def measured(manifest: Manifest) -> Cost:
    """Write and read it."""
    data = encode_manifest(manifest)
    cost = cost_of(lambda: decode_manifest(encode_manifest(manifest)) and None)
    extents = sum(len(image.extents) for image in manifest.images)
    return Cost(cost.wall_s, cost.cpu_s, {"MiB": len(data) / 1024**2, "extents": extents})


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(prog="hack/bench manifests", description=(__doc__ or "").partition("\n")[0])
    runs_option(parser)
    chosen = parser.parse_args()
    wanted = {
        "100 GiB, fresh": manifest_for(100, 0),
        "100 GiB, a tenth of it in pieces": manifest_for(100, 10 * 1024**3 // CHUNK_BYTES * PIECES),
        "100 GiB, in as many pieces as there may be": manifest_for(100, MOST_PIECES),
    }
    acts = {name: lambda manifest=manifest: measured(manifest) for name, manifest in wanted.items()}
    publish(
        Table(
            key="manifests",
            title="Write a manifest and read it",
            command="hack/bench manifests",
            machine=machine(),
            rows=rows_of(interleave(acts, chosen.runs)),
        )
    )


if __name__ == "__main__":
    main()
