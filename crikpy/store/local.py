"""A store in a directory: for one machine, for a shared filesystem, and for tests.

Nothing is ever visible half-written: bytes go to a file in `.incoming`, are synced, and get their name by one
rename or link. The directory may be used by several processes at once; a lock file orders conditional writes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from blake3 import blake3

from crikpy.aio.clock import Deadline
from crikpy.errors import (
    NoSuchBucketError,
    ObjectNotFoundError,
    StoreError,
    StoreForbiddenError,
    StoreFullError,
)
from crikpy.model.workload import Workload
from crikpy.store.base import ObjectInfo, probe

_INCOMING = ".incoming"
_LOCK = ".lock"
_LEFTOVER_S = 24 * 3600.0
_FOLDER_TRIES = 100
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class LocalStore:
    """Objects as files below one directory, readable by their owner only."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / _INCOMING

    @property
    def url(self) -> str:
        """Return the directory as a URL."""
        return self._root.as_uri()

    def get(self, key: str) -> bytes:
        """Return the object's bytes."""
        path = self._path(key)
        with self._translated(f"reading {key}"):
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError) as absent:
                self._require_root()
                raise ObjectNotFoundError(f"{self.url} has no {key}") from absent

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        """Return the object's bytes and their hash."""
        data = self.get(key)
        return data, _tag(data)

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write the object under a temporary name, sync it and rename it."""
        path = self._path(key)
        with self._translated(f"writing {key}"), self._written(data) as temporary, self._locked(fcntl.LOCK_SH):
            self._name(temporary, path, os.replace)

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        """Write the object under a temporary name, sync it and link it: a link never overwrites."""
        path = self._path(key)
        with self._translated(f"writing {key}"), self._written(data) as temporary, self._locked(fcntl.LOCK_SH):
            try:
                self._name(temporary, path, os.link)
            except FileExistsError:
                return False
            return True

    def replace(self, key: str, data: bytes | memoryview, tag: str) -> str | None:
        """Compare and rename under the lock that every other write of ours shares."""
        path = self._path(key)
        with self._translated(f"writing {key}"), self._written(data) as temporary, self._locked(fcntl.LOCK_EX):
            try:
                if _tag(path.read_bytes()) != tag:
                    return None
            except FileNotFoundError:
                return None
            self._name(temporary, path, os.replace)
            return _tag(data)

    def delete(self, key: str) -> None:
        """Remove the object and the folders that it leaves empty."""
        path = self._path(key)
        with self._translated(f"deleting {key}"):
            self._require_root()
            with self._locked(fcntl.LOCK_SH), contextlib.suppress(FileNotFoundError):
                path.unlink()
                _sync_directory(path.parent)
            self._prune(path.parent)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the files below the prefix."""
        with self._translated(f"listing {prefix}"):
            self._require_root()
            folder = self._root / prefix.rpartition("/")[0]
            for directory, folders, files in os.walk(folder, onerror=_raise_unless_absent):
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in files:
                    path = Path(directory, name)
                    key = path.relative_to(self._root).as_posix()
                    if name.startswith(".") or not key.startswith(prefix):
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        facts = path.stat()
                        modified = datetime.fromtimestamp(facts.st_mtime, UTC)
                        yield ObjectInfo(key=key, size=facts.st_size, modified=modified)

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the directories right below the prefix."""
        with self._translated(f"listing {prefix}"):
            self._require_root()
            with contextlib.suppress(FileNotFoundError):
                for path in (self._root / prefix).iterdir():
                    if path.is_dir() and not path.name.startswith("."):
                        yield path.name

    def make_ready(self, workload: Workload, deadline: Deadline) -> None:
        """Do nothing: the directory is all that is needed."""

    def check(self) -> None:
        """Make the directory if its parent is there, try writing, and clear what a crash left behind."""
        with self._translated("preparing"):
            self._ensure_root()
            self._sweep()
        probe(self)

    def close(self) -> None:
        """Do nothing: no file stays open between calls."""

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if any(not part or part.startswith(".") or "\0" in part for part in parts):
            raise StoreError(f"{key!r} cannot be a key")
        return self._root.joinpath(*parts)

    @contextlib.contextmanager
    def _written(self, data: bytes | memoryview) -> Iterator[Path]:
        """Write a file that has no name in the store yet; it is gone again afterwards unless it was renamed."""
        self._ensure_root()
        temporary = self._incoming / secrets.token_hex(16)
        try:
            with _private(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _name(self, temporary: Path, path: Path, act: Callable[[Path, Path], None]) -> None:
        """Rename or link; the folder may vanish between its making and its use, since `delete` prunes."""
        for _ in range(_FOLDER_TRIES):
            self._make_folder(path.parent)
            try:
                act(temporary, path)
                _sync_directory(path.parent)
            except FileNotFoundError:
                continue
            return
        raise StoreError(f"{path.parent} vanished again and again")

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if folder != self._root:
            self._make_folder(folder.parent)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            _sync_directory(folder.parent)

    def _prune(self, folder: Path) -> None:
        with contextlib.suppress(OSError):
            while folder != self._root:
                folder.rmdir()
                folder = folder.parent

    @contextlib.contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        with _private(self._root / _LOCK, os.O_WRONLY | os.O_CREAT) as descriptor:
            fcntl.flock(descriptor, kind)
            yield

    def _require_root(self) -> None:
        if not self._root.is_dir():
            raise NoSuchBucketError(f"{self._root} is not a directory", remedy="create it, or check the URL")

    def _ensure_root(self) -> None:
        if self._incoming.is_dir():
            return
        for folder in (self._root, self._incoming):
            try:
                folder.mkdir(mode=0o700, exist_ok=True)
            except (FileNotFoundError, FileExistsError, NotADirectoryError) as absent:
                raise NoSuchBucketError(
                    f"{self._root} cannot be made a directory", remedy="create its parent, or check the URL"
                ) from absent

    def _sweep(self) -> None:
        for path in self._incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _LEFTOVER_S:
                    path.unlink()

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as fault:
            text = f"{doing} in {self.url}: {fault.strerror}"
            if fault.errno in _FULL:
                raise StoreFullError(text, remedy="make room, or run crikpy gc") from fault
            if fault.errno in _FORBIDDEN:
                raise StoreForbiddenError(text, remedy="check the owner and mode of the directory") from fault
            raise StoreError(text) from fault


def _tag(data: bytes | memoryview) -> str:
    return blake3(data).hexdigest()


@contextlib.contextmanager
def _private(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _sync_directory(folder: Path) -> None:
    """Make names durable, as fsync(2) asks for."""
    with _private(folder, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        os.fsync(descriptor)


def _raise_unless_absent(fault: OSError) -> None:
    if fault.errno != errno.ENOENT:
        raise fault
