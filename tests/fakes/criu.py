"""What CRIU does as seen by crikpy: its side of the image stream, and a whole bundle that behaves as ordered.

The bundle's loader is this program. It takes CRIU's words and carries out steps that the test has written down:

    ["log", TEXT]          a line into the log file, which is emptied first, as CRIU does
    ["complain", TEXT]     a line to standard error
    ["image", NAME, SIZE]  dump an image of so many bytes, see content()
    ["until-cut", NAME]    dump an image without end, until the other side has closed it
    ["fetch", NAME]        restore an image; what came is put on record
    ["write", N, TEXT]     write to the Nth --inherit-fd
    ["child"]              leave a process behind, in the same session
    ["ignore"]             ignore every signal that can be ignored
    ["hang"]               for ever
    ["kill", SIGNAL]       die of a signal
    ["exit", STATUS]       end

What it was started with and what it did is kept beside the orders. Only the standard library is used, so that it
starts fast; nothing here is CRIU's code.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

_LENGTH = struct.Struct("=I")
_LOADER = "lib/ld-linux-x86-64.so.2"
_ORDERS, _RECORD = "orders.json", "record.json"
PATIENCE_S = 20.0
"""Longest wait of a peer for an answer; reached only when a test fails."""


def content(name: str, size: int) -> bytes:
    """Return the bytes that an image of the name has, different for each name."""
    pattern = f"{name} " * (65536 // (len(name) + 1) + 1)
    return (pattern.encode() * (size // len(pattern) + 1))[:size]


class Streamer:
    """CRIU's end of the stream: asks for images, and passes pipes (criu/img-streamer.c of CRIU 4.2)."""

    def __init__(self, socket_path: str | Path) -> None:
        self.connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.connection.settimeout(PATIENCE_S)
        try:
            self.connection.connect(str(socket_path))
        except OSError:
            self.connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def request(self, name: str) -> None:
        """Send a request and no pipe."""
        body = b"\n" + bytes([len(name)]) + name.encode()
        self.connection.sendall(_LENGTH.pack(len(body)) + body)

    def dump(self, name: str) -> int:
        """Return the end of a pipe to write an image into."""
        self.request(name)
        read_end, write_end = os.pipe()
        socket.send_fds(self.connection, [b"\0"], [read_end])
        os.close(read_end)
        return write_end

    def fetch(self, name: str) -> int | None:
        """Return the end of a pipe to read an image from, or None when there is none of that name."""
        self.request(name)
        reply = self.connection.recv(6, socket.MSG_WAITALL)
        if reply == _LENGTH.pack(2) + b"\x08\x00":
            return None
        if reply != _LENGTH.pack(2) + b"\x08\x01":
            raise ConnectionError(f"not a reply: {reply!r}")
        read_end, write_end = os.pipe()
        socket.send_fds(self.connection, [b"\0"], [write_end])
        os.close(write_end)
        return read_end


def write_whole(pipe: int, data: bytes) -> None:
    """Write and close, as CRIU does with an image."""
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(pipe, view) :]
    finally:
        os.close(pipe)


def read_whole(pipe: int) -> bytes:
    """Read to the end and close."""
    with os.fdopen(pipe, "rb") as image:
        return image.read()


class FakeBundle:
    """A bundle whose CRIU does what it was told.

    Attributes:
        path: its directory.
    """

    def __init__(self, path: Path, *orders: list[Any]) -> None:
        self.path = path
        (path / "lib").mkdir(parents=True)
        root = Path(__file__).parents[2]
        program = f"import sys; sys.path.insert(0, {str(root)!r}); from tests.fakes.criu import main; main()"
        (path / _LOADER).write_text(f"#!{sys.executable} -ISu\n{program}\n")
        (path / _LOADER).chmod(0o755)
        (path / _ORDERS).write_text(json.dumps(orders))

    @property
    def record(self) -> dict[str, Any]:
        """What a dump or restore was started with and did."""
        return dict(json.loads((self.path / _RECORD).read_text()))

    @property
    def started(self) -> bool:
        """Whether a dump or restore was started at all."""
        return (self.path / _RECORD).exists()


class _FakeCriu:
    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.bundle = Path(words[words.index("--library-path") + 1]).parent
        self.record: dict[str, Any] = {
            "words": words,
            "environment": dict(os.environ),
            "pid": os.getpid(),
            "did": [],
        }
        self._stream: Streamer | None = None

    def option(self, name: str, otherwise: str = "") -> str:
        return next(
            (word.removeprefix(f"{name}=") for word in self.words if word.startswith(f"{name}=")), otherwise
        )

    def check(self) -> None:
        """Learn of the kernel, and keep it where real CRIU does."""
        Path(self.option("--work-dir"), "criu.kdat").write_text("what was learnt")

    def run(self) -> None:
        images = Path(self.option("--images-dir"))
        self.record["images"] = str(images.resolve())
        self.record["learnt"] = (images / "criu.kdat").read_text() if (images / "criu.kdat").exists() else ""
        self._keep("started")
        log = os.open(self.option("--log-file"), os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND)
        for step, *facts in json.loads((self.bundle / _ORDERS).read_text()):
            if step == "log":
                os.write(log, f"{facts[0]}\n".encode())
            else:
                getattr(self, f"_{step.replace('-', '_')}")(*facts)
            self._keep(step)

    def _keep(self, step: str) -> None:
        self.record["did"].append(step)
        draft = self.bundle / f"{_RECORD}.new"
        draft.write_text(json.dumps(self.record))
        draft.replace(self.bundle / _RECORD)

    def _connected(self, name: str) -> Streamer:
        if self._stream is None:
            self._stream = Streamer(Path(self.option("--images-dir")) / name)
        return self._stream

    def _complain(self, text: str) -> None:
        os.write(2, f"{text}\n".encode())

    def _image(self, name: str, size: int) -> None:
        write_whole(self._connected("streamer-capture.sock").dump(name), content(name, size))

    def _until_cut(self, name: str) -> None:
        pipe = self._connected("streamer-capture.sock").dump(name)
        with suppress(BrokenPipeError):
            while True:
                os.write(pipe, b"x" * 65536)
                time.sleep(0.01)

    def _fetch(self, name: str) -> None:
        pipe = self._connected("streamer-serve.sock").fetch(name)
        found = None if pipe is None else read_whole(pipe)
        fetched = self.record.setdefault("fetched", {})
        fetched[name] = None if found is None else [len(found), found == content(name, len(found))]

    def _write(self, number: int, text: str) -> None:
        inherited = [word for word in self.words if word.startswith("--inherit-fd=")]
        found = re.fullmatch(r"--inherit-fd=fd\[(\d+)\]:(.*)", inherited[number])
        assert found is not None
        os.write(int(found[1]), text.encode())

    def _child(self) -> None:
        # The shell ends at once, so that its child is nobody's descendant any more.
        script = "sleep 1000 >/dev/null 2>&1 & echo $!"
        made = subprocess.run(
            ["/bin/sh", "-c", script], env={"PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, check=True
        )
        self.record["child"] = int(made.stdout)

    def _ignore(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)

    def _hang(self) -> None:
        self._keep("hanging")
        while True:
            time.sleep(1000)

    def _kill(self, name: str) -> None:
        self._keep("dying")
        os.kill(os.getpid(), signal.Signals[name])

    def _exit(self, status: int) -> None:
        self._keep("ending")
        os._exit(status)


def main() -> None:
    """Be CRIU."""
    fake = _FakeCriu(sys.argv[1:])
    if "check" in fake.words:
        fake.check()
    else:
        fake.run()
