"""Gives CRIU some images in another form than they were dumped in; all others pass as they are."""

from __future__ import annotations

from collections.abc import Mapping

from crikpy.model.streams import ImageSource


class SubstitutedSource:
    """A source in which some images have been replaced by whole ones (crikpy.model.streams.ImageSource)."""

    def __init__(self, source: ImageSource, replaced: Mapping[str, bytes]) -> None:
        self._source = source
        self._replaced = replaced

    def size(self, name: str) -> int | None:
        """Return the image's length in bytes, or None when there is no such image."""
        found = self._replaced.get(name)
        return self._source.size(name) if found is None else len(found)

    def piece(self, name: str, offset: int) -> memoryview | None:
        """Return bytes of the image at an offset; None while they are being fetched."""
        found = self._replaced.get(name)
        return self._source.piece(name, offset) if found is None else memoryview(found)[offset:]

    def ready(self) -> int:
        """Return a descriptor that becomes readable when something asked for has arrived or failed."""
        return self._source.ready()

    def acknowledge(self) -> None:
        """Make the descriptor unreadable again."""
        self._source.acknowledge()
