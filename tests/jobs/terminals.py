"""A job with terminals of its own: children that read lines there and answer, as under tmux."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios
import tty

from tests.jobs import proving

_ROWS, _COLUMNS = 31, 97


class Shell:
    """A child whose terminal is held by this process."""

    def __init__(self) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            _answer()
        tty.setraw(self.master)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        self._expect(b"here")

    def prove(self, count: int) -> None:
        """Fail unless the child answers at its terminal, which is as it was."""
        word = f"line {count}".encode()
        os.write(self.master, word + b"\n")
        self._expect(b"%s on %d by %d, session %d" % (word, _ROWS, _COLUMNS, self.pid))

    def send_ahead(self) -> None:
        """Leave something in the terminal that nobody has read."""
        os.write(self.master, b"ahead\n")
        self._wait()

    def read_ahead(self) -> None:
        """Read what was left."""
        self._expect(b"ahead on %d by %d, session %d" % (_ROWS, _COLUMNS, self.pid))

    def _expect(self, line: bytes) -> None:
        found = b""
        while not found.endswith(b"\n"):
            self._wait()
            found += os.read(self.master, 1)
        proving.check_equal(found.rstrip(b"\r\n"), line, "what the child says")

    def _wait(self) -> None:
        if not select.select([self.master], [], [], 10)[0]:
            raise AssertionError("the child says nothing")


def _answer() -> None:
    print("here", flush=True)
    while True:
        line = os.read(0, 100)
        if not line:
            os._exit(0)
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))
        controlling = os.open("/dev/tty", os.O_RDWR)
        text = f"{line.decode().strip()} on {rows} by {columns}, session {os.tcgetpgrp(controlling)}\n"
        os.close(controlling)
        os.write(1, text.encode())


def main() -> None:
    """Hold two terminals."""
    proving.block()
    shells = [Shell(), Shell()]
    shells[1].send_ahead()

    def prove(count: int) -> None:
        shells[1].read_ahead()
        for shell in shells:
            shell.prove(count)
        shells[1].send_ahead()

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
