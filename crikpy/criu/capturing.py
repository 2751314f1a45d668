"""Take the images of a dump from CRIU as they are made, and pass them to a sink.

It never stores anything itself. When the sink fails, the pipes are closed, CRIU's dump fails of it, and the job
runs on: that is the commit gate's first half.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from pathlib import Path

from crikpy import names
from crikpy.aio.clock import Deadline
from crikpy.criu import framing
from crikpy.criu.streaming import StreamServer, widen
from crikpy.errors import CriuError, DeadlineError
from crikpy.model.streams import ImageSink, ImageWriter


class CaptureServer(StreamServer):
    """The capture end of `criu dump --stream`.

    Attributes:
        first_image_at: monotonic time of CRIU's first image, which it opens once every task is stopped.
    """

    def __init__(self, images_dir: Path, sink: ImageSink) -> None:
        super().__init__(images_dir / names.CAPTURE_SOCKET)
        self.first_image_at: float | None = None
        self._sink = sink
        self._pipes: dict[int, ImageWriter] = {}
        self._criu_ended = threading.Event()

    def finish(self, deadline: Deadline) -> None:
        """Wait until everything that CRIU wrote has reached the sink; call it when CRIU has ended.

        Raises:
            CrikpyError: the first failure here or in the sink, or the stream was cut.
            DeadlineError: the sink was not done in time.
        """
        self._criu_ended.set()
        self._wake()
        self._thread.join(deadline.remaining())
        if self._thread.is_alive():
            raise DeadlineError("out of time while the store took the last images")
        if self.failure is not None:
            raise self.failure
        if self._stopped.is_set():
            raise CriuError("the stream of images was cut")

    def _finished(self) -> bool:
        if not self._criu_ended.is_set():
            return False
        self._accept()  # CRIU may have connected and ended before this thread looked
        return self._connection is None and not self._pipes

    def _begin(self, connection: socket.socket, name: str) -> None:
        if self.first_image_at is None:
            self.first_image_at = time.monotonic()
        pipe = framing.receive_pipe(connection)
        try:
            self._pipes[pipe] = self._sink.open(name)
        except BaseException:
            os.close(pipe)
            raise
        widen(pipe)
        self._selector.register(pipe, selectors.EVENT_READ, lambda: self._move(pipe))

    def _move(self, pipe: int) -> None:
        writer = self._pipes[pipe]
        count = os.readv(pipe, [writer.buffer()])
        if count:
            writer.advance(count)
            return
        self._selector.unregister(pipe)
        os.close(pipe)
        del self._pipes[pipe]
        writer.close()

    def _close_pipes(self) -> None:
        for pipe in self._pipes:
            os.close(pipe)
        self._pipes.clear()
