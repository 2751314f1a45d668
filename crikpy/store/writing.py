"""Images on their way into the store: begun, written (cutting.py), stored by threads (uploading.py), counted.

Beside every image with chunks of its own an index of its pages is written, for the checkpoint after this one.
Nothing here commits anything: chunks without a manifest are not a checkpoint.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Collection
from functools import partial
from types import TracebackType

from crikpy import tracing
from crikpy.aio.clock import Deadline
from crikpy.errors import CrikpyError, StoreError
from crikpy.model.manifest import Sizes, index_name
from crikpy.model.streams import TransferProgress, WrittenImages
from crikpy.model.workload import Workload
from crikpy.settings import StoreSettings
from crikpy.store.base import ObjectStore
from crikpy.store.cutting import OpenImage, Packer
from crikpy.store.files import ImageOutput
from crikpy.store.pacing import Pace
from crikpy.store.recalling import KnownPages
from crikpy.store.uploading import Uploads


class ChunkWriter:
    """Takes the images of one checkpoint (crikpy.model.streams.ImageSink).

    Use it as a context: leaving it before `finish` has returned stops its threads.
    """

    def __init__(
        self,
        store: ObjectStore,
        workload: Workload,
        *,
        settings: StoreSettings,
        known: Collection[str],
        pages: KnownPages | None = None,
        deadline: Deadline,
        on_progress: Callable[[TransferProgress], None] | None = None,
        pace: Pace | None = None,
        staging_bytes: int = 0,
    ) -> None:
        """Start the threads.

        Args:
            store: where chunks go.
            workload: whose chunks they are.
            settings: bounds of memory and of requests.
            known: names of chunks that complete checkpoints of this workload refer to; trusted without a look.
            pages: what an earlier checkpoint of it holds, to be trusted likewise.
            deadline: nothing waits longer.
            on_progress: called from any thread, one call at a time; it must be quick.
            pace: bounds the bandwidth instead of the settings.
            staging_bytes: memory besides that of the settings, for what waits for the store.

        Raises:
            SettingsError: the memory does not suffice.
        """
        self._told = tracing.start("upload", workload=str(workload))
        self._uploads = Uploads(
            store,
            workload,
            settings=settings,
            known=known,
            deadline=deadline,
            on_progress=on_progress,
            pace=pace,
            staging_bytes=staging_bytes,
        )
        self._pages = pages
        self._packer = Packer(self._uploads)
        self._images: dict[str, OpenImage] = {}
        self._unindexed: list[OpenImage] = []
        self._index_packer = Packer(self._uploads, of_indexes=True)
        self._indexes: dict[str, OpenImage] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> ChunkWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def prepare(self, size: int) -> None:
        """Have memory ready for so many bytes, or as much as there may be, before whoever writes is in a hurry."""
        self._uploads.prepare(size)

    def open(self, name: str) -> OpenImage:
        """Begin an image (crikpy.model.streams.ImageWriter).

        Raises:
            StoreError: there is one of that name.
        """
        self._index()
        with self._lock:
            if name in self._images:
                raise StoreError(f"image {name} was written twice")
            image = OpenImage(
                self._uploads,
                self._packer,
                known=None if self._pages is None else self._pages.image(name),
                open_index=partial(self._open_index, name),
            )
            self._images[name] = image
            self._unindexed.append(image)
            return image

    def file(self, name: str) -> io.RawIOBase:
        """Begin an image that is written like a file; closing the file ends it."""
        return ImageOutput(self.open(name))

    def finish(self) -> WrittenImages:
        """Wait until everything is stored, and say where.

        Raises:
            StoreError: an image was never closed.
            DeadlineError: it did not finish in time.
            CrikpyError: the first failure of any upload.
        """
        with self._lock:
            images = dict(self._images)
        if unfinished := [name for name, image in images.items() if not image.closed]:
            raise StoreError(f"images were never closed: {', '.join(unfinished)}")
        self._packer.flush()
        self._uploads.drain()
        for image in self._unindexed:
            image.close_index()
        self._index_packer.flush()
        self._uploads.drain()
        self._uploads.end()
        tally = self._uploads.tally
        written = tuple(image.stored(name) for name, image in images.items())
        sizes = Sizes(
            image_bytes=sum(image.size for image in written),
            zero_bytes=tally.zero_bytes,
            reused_bytes=tally.reused_bytes,
            stored_bytes=tally.stored_bytes,
            chunks=tally.chunks,
        )
        self._told.note(bytes=sizes.image_bytes, stored_bytes=sizes.stored_bytes, chunks=sizes.chunks)
        self._told.note(reused_bytes=sizes.reused_bytes)
        self._told.end()
        indexes = tuple(index.stored(index_name(name)) for name, index in self._indexes.items())
        return WrittenImages(images=written, sizes=sizes, indexes=indexes)

    def _index(self) -> None:
        """Write the indexes of images that are stored, so that they keep no memory.

        Not done by those who store: writing an index may have to wait for them.
        """
        with self._lock:
            candidates, self._unindexed = self._unindexed, []
        waiting = [image for image in candidates if not image.indexed()]
        with self._lock:
            self._unindexed += waiting

    def abort(self, reason: CrikpyError | None = None) -> None:
        """Stop; whoever waits in here gets the first failure, or this reason. Harmless after `finish`."""
        self._uploads.fail(reason or StoreError("the upload was given up"))
        self._told.end()

    def _open_index(self, name: str) -> OpenImage:
        with self._lock:
            index = OpenImage(self._uploads, self._index_packer, of_index=True)
            self._indexes[name] = index
            return index
