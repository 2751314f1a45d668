"""A job that holds files in every state: appended to, deleted, renamed, locked, mapped, in memory only."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import tempfile
from pathlib import Path

from tests.jobs import proving

_PAGE = mmap.PAGESIZE


class Appended:
    """A file that grows by a line with each proof, and one that is read on from where it was."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "appended"
        self._out = self._path.open("a")
        self._read = (folder / "read").open("w+b", buffering=0)
        self._read.write(b"".join(b"%04d" % number for number in range(1000)))
        self._read.seek(0)
        self._append(0)

    def prove(self, count: int) -> None:
        """Fail unless nothing is lost and both positions are where they were."""
        proving.check_equal(self._path.read_text().split(), [str(n) for n in range(count)], "lines")
        proving.check_equal(self._read.read(4), b"%04d" % (count - 1), "the next number")
        self._append(count)

    def _append(self, count: int) -> None:
        self._out.write(f"{count}\n")
        self._out.flush()


class Deleted:
    """Files without a name: written to, with holes, with a second open descriptor, with a second name."""

    def __init__(self, folder: Path) -> None:
        self._written = (folder / "deleted").open("w+b", buffering=0)
        self._again = (folder / "deleted").open("rb", buffering=0)
        self._sparse = (folder / "sparse").open("w+b", buffering=0)
        self._sparse.truncate(64 * 1024 * 1024)
        os.pwrite(self._sparse.fileno(), b"deep down", 40 * 1024 * 1024)
        self._linked = (folder / "first-name").open("w+b", buffering=0)
        (folder / "second-name").hardlink_to(folder / "first-name")
        self._second = folder / "second-name"
        self._renamed = (folder / "old-name").open("w+b", buffering=0)
        (folder / "old-name").rename(folder / "new-name")
        self._new = folder / "new-name"
        for name in ("deleted", "sparse", "first-name"):
            (folder / name).unlink()
        self._write(0)

    def prove(self, count: int) -> None:
        """Fail unless both descriptors see what was written."""
        expected = b"".join(b"<%d>" % n for n in range(count))
        proving.check_all(
            [
                (self._again.read(), b"<%d>" % (count - 1), "the second descriptor's news"),
                (os.pread(self._written.fileno(), 9999, 0), expected, "the deleted file"),
                (os.pread(self._sparse.fileno(), 9, 40 * 1024 * 1024), b"deep down", "the sparse file"),
                (os.fstat(self._sparse.fileno()).st_size, 64 * 1024 * 1024, "the sparse file's size"),
                (self._second.read_bytes(), expected, "the file by its other name"),
                (self._new.read_bytes(), expected, "the renamed file"),
            ]
        )
        self._write(count)

    def _write(self, count: int) -> None:
        for file in (self._written, self._linked, self._renamed):
            file.write(b"<%d>" % count)


class Locked:
    """Locks of both kinds, which a process that comes later must meet."""

    def __init__(self, folder: Path) -> None:
        self._flocked, self._ranged = folder / "flocked", folder / "ranged"
        self._flock = self._flocked.open("w")
        fcntl.flock(self._flock, fcntl.LOCK_EX)
        self._range = self._ranged.open("w")
        fcntl.lockf(self._range, fcntl.LOCK_EX, 10, 5)

    def prove(self) -> None:
        """Fail unless a child cannot lock the same."""
        child = os.fork()
        if child == 0:
            os._exit(0 if self._kept() else 1)
        proving.check_equal(os.waitpid(child, 0)[1], 0, "locks that others meet")

    def _kept(self) -> bool:
        with self._flocked.open("w") as flock, self._ranged.open("w") as ranged:
            return not (
                _locks(lambda: fcntl.flock(flock, fcntl.LOCK_EX | fcntl.LOCK_NB))
                or _locks(lambda: fcntl.lockf(ranged, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5))
            ) and _locks(lambda: fcntl.lockf(ranged, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 20))


class Memory:
    """Memory that files or nothing stand behind: memfd, shared and private maps, a map of a deleted file."""

    def __init__(self, folder: Path) -> None:
        self._memfd = os.memfd_create("kept", os.MFD_CLOEXEC)
        os.ftruncate(self._memfd, 4 * _PAGE)
        path = folder / "mapped"
        path.write_bytes(bytes(4 * _PAGE))
        with path.open("r+b") as file:
            self._maps = [
                mmap.mmap(self._memfd, 4 * _PAGE),
                mmap.mmap(-1, 4 * _PAGE),
                mmap.mmap(-1, 4 * _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS),
                mmap.mmap(file.fileno(), 4 * _PAGE),
                mmap.mmap(file.fileno(), 4 * _PAGE, flags=mmap.MAP_PRIVATE),
            ]
        self._path = path
        self._write(0)

    def prove(self, count: int) -> None:
        """Fail unless every map holds what was written last."""
        for number, one in enumerate(self._maps):
            proving.check_equal(one[2 * _PAGE], count - 1, f"map {number}")
        proving.check_equal(os.pread(self._memfd, 1, 2 * _PAGE), bytes([count - 1]), "the memory file")
        proving.check_equal(self._path.read_bytes()[2 * _PAGE], count - 1, "the mapped file")
        self._write(count)

    def _write(self, count: int) -> None:
        for one in self._maps:
            one[2 * _PAGE] = count


class Kernel:
    """What only the kernel knows: a FIFO with bytes in it, an event counter, a directory, the umask, /proc."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        os.mkfifo(folder / "fifo")
        self._fifo = os.open(folder / "fifo", os.O_RDWR)
        self._event = libc.eventfd(5, os.O_CLOEXEC)
        self._directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._own = Path("/proc/self/status").open()  # noqa: SIM115  as programs do that watch themselves
        self._names = sorted(path.name for path in folder.iterdir())
        os.chdir(folder)
        os.umask(0o027)
        os.write(self._fifo, b"in the pipe 0")

    def prove(self, count: int) -> None:
        """Fail unless all of it is as it was."""
        umask = os.umask(0o027)
        self._own.seek(0)
        proving.check_all(
            [
                (os.read(self._fifo, 99), b"in the pipe %d" % (count - 1), "the FIFO"),
                (int.from_bytes(os.read(self._event, 8), "little"), 5, "the event counter"),
                (_names(f"/proc/self/fd/{self._directory}"), self._names, "the directory"),
                (_names("."), self._names, "the current directory"),
                (umask, 0o027, "the umask"),
                (f"\nPid:\t{os.getpid()}\n" in self._own.read(), True, "what /proc says of it"),
            ]
        )
        os.write(self._fifo, b"in the pipe %d" % count)
        os.write(self._event, (5).to_bytes(8, "little"))


def _names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def _locks(attempt: object) -> bool:
    assert callable(attempt)
    try:
        attempt()
    except BlockingIOError:
        return False
    return True


def main() -> None:
    """Open everything, then prove it."""
    proving.block()
    folder = Path(tempfile.mkdtemp(prefix="files-"))
    appended, deleted = Appended(folder), Deleted(folder)
    locked, memory = Locked(folder), Memory(folder)
    kernel = Kernel(folder)

    def prove(count: int) -> None:
        appended.prove(count)
        deleted.prove(count)
        locked.prove()
        memory.prove(count)
        kernel.prove(count)

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
