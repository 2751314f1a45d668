"""Feed the images of a checkpoint to CRIU as it asks for them.

It holds no image: the source lends pieces that have arrived and says when others have, so memory is bounded by
the source alone, however many processes read at once.
"""

from __future__ import annotations

import os
import selectors
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from crikpy import names
from crikpy.criu import framing
from crikpy.criu.streaming import StreamServer, widen
from crikpy.model.streams import ImageSource


@dataclass(slots=True)
class _Feed:
    """An image on its way into a pipe."""

    name: str
    size: int
    offset: int = 0


class ServeServer(StreamServer):
    """The serving end of `criu restore --stream`.

    Attributes:
        fed_bytes: bytes handed to CRIU so far.
        cut_short: images that CRIU read have ended before their end.
    """

    def __init__(self, images_dir: Path, source: ImageSource) -> None:
        super().__init__(images_dir / names.SERVE_SOCKET)
        self.fed_bytes = 0
        self.cut_short = False
        self._source = source
        self._feeds: dict[int, _Feed] = {}
        self._starving: set[int] = set()
        self._selector.register(source.ready(), selectors.EVENT_READ, self._feed_starving)

    def _begin(self, connection: socket.socket, name: str) -> None:
        size = self._source.size(name)
        connection.sendall(framing.encode_reply(exists=size is not None))
        if size is None:
            return
        pipe = framing.receive_pipe(connection)
        os.set_blocking(pipe, False)
        widen(pipe)
        self._feeds[pipe] = _Feed(name, size)
        self._feed(pipe)

    def _feed(self, pipe: int) -> None:
        """Write one piece if it has arrived and fits, then let others have their turn."""
        feed = self._feeds[pipe]
        if feed.offset < feed.size:
            piece = self._source.piece(feed.name, feed.offset)
            if piece is None:
                self._await_source(pipe)
                return
            try:
                count = os.write(pipe, piece)
            except BlockingIOError:
                count = 0
            except BrokenPipeError:
                self._end(pipe)  # CRIU reads only the beginning of some images
                return
            feed.offset += count
            self.fed_bytes += count
        if feed.offset < feed.size:
            self._await_room(pipe)
        else:
            self._end(pipe)

    def _await_source(self, pipe: int) -> None:
        self._starving.add(pipe)
        if pipe in self._selector.get_map():
            self._selector.unregister(pipe)

    def _await_room(self, pipe: int) -> None:
        if pipe not in self._selector.get_map():
            self._selector.register(pipe, selectors.EVENT_WRITE, partial(self._feed, pipe))

    def _feed_starving(self) -> None:
        self._source.acknowledge()
        waiting, self._starving = self._starving, set()
        for pipe in waiting:
            self._feed(pipe)

    def _end(self, pipe: int) -> None:
        if pipe in self._selector.get_map():
            self._selector.unregister(pipe)
        os.close(pipe)
        del self._feeds[pipe]

    def _close_pipes(self) -> None:
        self.cut_short = bool(self._feeds)
        for pipe in self._feeds:
            os.close(pipe)
        self._feeds.clear()
