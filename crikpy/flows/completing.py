"""The last touches to a manifest, once everything that it refers to is in the store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from crikpy.model.manifest import Manifest, StoredImage
from crikpy.model.streams import WrittenImages


def completed(draft: Manifest, written: WrittenImages, frozen_s: float) -> Manifest:
    """Return a manifest as it is committed.

    Args:
        draft: what was seen of the job.
        written: what is in the store.
        frozen_s: how long it stood still, as far as that is known.
    """
    return replace(
        draft,
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
        images=(*_small_first(written), *written.indexes),
        sizes=written.sizes,
        frozen_s=round(frozen_s, 3),
    )


def _small_first(written: WrittenImages) -> tuple[StoredImage, ...]:
    """Order images as a restore asks for them: the many small ones before the memory."""
    return tuple(sorted(written.images, key=lambda image: (image.name.startswith("pages-"), image.name)))
