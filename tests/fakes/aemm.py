"""AWS's own stand-in for the instance metadata service, as a real process: amazon-ec2-metadata-mock.

Our fake says what we think that AWS says. This one says what AWS's engineers think. hack/metadata-mock builds it.
Sources: docs/usage.md and docs/configuration.md of github.com/aws/amazon-ec2-metadata-mock.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from crikpy.aio.children import Child
from crikpy.aio.clock import Deadline

INSTANCE = "i-1234567890abcdef0"
"""The instance that it always speaks of."""

_VARIABLE = "CRIKPY_TEST_METADATA_MOCK"
_START_S = 20.0


def find_program() -> Path | None:
    """Return the program; None when there is none and nobody has said that there is.

    Raises:
        FileNotFoundError: it is not where the environment says.
    """
    named = os.environ.get(_VARIABLE)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    path = Path(named) if named else cache / "crikpy/metadata-mock/ec2-metadata-mock"
    if path.is_file():
        return path
    if named:
        raise FileNotFoundError(f"{_VARIABLE} names {named}, which hack/metadata-mock has not built")
    return None


@contextlib.contextmanager
def mocking(program: Path, folder: Path, *words: str) -> Iterator[str]:
    """Run it until the context ends, asking for tokens as IMDSv2 does; its URL.

    Args:
        program: from find_program.
        folder: for its log, and instead of a home with settings in it.
        words: its command and flags.
    """
    port = _free_port()
    argv = [str(program), *words, "--imdsv2", "--hostname", "127.0.0.1", "--port", str(port)]
    log = os.open(folder / "aemm.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        child = Child(argv, stdout=log, stderr=log, env={"HOME": str(folder), "PATH": "/usr/bin:/bin"})
    finally:
        os.close(log)
    try:
        _await_answer(child, f"http://127.0.0.1:{port}", folder / "aemm.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        child.kill_tree()


def _await_answer(child: Child, endpoint: str, log: Path) -> None:
    deadline = Deadline.after(_START_S)
    while True:
        try:
            with urllib.request.urlopen(f"{endpoint}/latest/meta-data/", timeout=1):
                return
        except urllib.error.HTTPError as answer:  # 401 without a token is an answer, too
            answer.close()
            return
        except OSError as fault:
            if child.poll() is not None or deadline.expired():
                raise RuntimeError(f"the mock did not start: {fault}\n{log.read_text()}") from fault
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
