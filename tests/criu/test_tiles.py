"""A job that uses AMX's tiles goes on using them after a restore, and is never harmed by a dump."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crikpy import names, settings
from crikpy.aio.clock import Deadline
from crikpy.capsule import entering
from crikpy.criu import tiles
from crikpy.criu.argv import InheritedPipe
from crikpy.criu.quieting import stop_tree
from crikpy.criu.running import Criu, DumpOutcome
from crikpy.criu.tiles import Core, CoreWatch
from crikpy.errors import CriuError, TilesInUseError
from crikpy.settings import CriuSettings
from tests.integration.capsules import PlainJob, job_words
from tests.jobs.tiles import SMALL_STACK_BYTES

LAUNCHER_SOURCE = Path(__file__).parents[2] / "daemonset" / "launcher"
NEEDED = ("CRIKPY_CRIU_BUNDLE", "CRIKPY_CRIU_LAUNCHER")
NEEDED_STACK = 11952
PATIENCE_S = 30.0
X87, TILECFG, TILEDATA = 1 << 0, 1 << 17, 1 << 18


def varint(value: int) -> bytes:
    head = b""
    while value > 0x7F:
        head += bytes([value & 0x7F | 0x80])
        value >>= 7
    return head + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def core_image(in_use: int | None, stack: tuple[int, int] | None) -> bytes:
    """An image of a core with these state components in use and this alternate stack (size, flags)."""
    body = field(1, 1)
    if in_use is not None:
        xsave = field(1, in_use) + field(2, 2**64 - 1) * 3
        fpregs = field(1, 0x37F) + varint(5 << 3 | 5) + bytes(4) + field(13, xsave)
        body += field(2, field(1, 0x7F00_0000_0000) + varint(9 << 3 | 1) + bytes(8) + field(3, fpregs))
    if stack is not None:
        body += field(
            5, field(3, 0) + field(7, field(1, 0x7F00_0000_0000) + field(2, stack[0]) + field(3, stack[1]))
        )
    return struct.pack("<III", 0x54564319, 0x55053847, len(body)) + body


class Images:
    """A sink and a source in memory, which lends little room at a time."""

    def __init__(self) -> None:
        self.images: dict[str, bytearray] = {}
        self.whole: set[str] = set()
        self._ends = os.pipe()

    def open(self, name: str) -> Writer:
        self.images[name] = bytearray()
        return Writer(self, name)

    def size(self, name: str) -> int | None:
        return len(self.images[name]) if name in self.images else None

    def piece(self, name: str, offset: int) -> memoryview:
        return memoryview(self.images[name])[offset:]

    def ready(self) -> int:
        return self._ends[0]

    def acknowledge(self) -> None:
        pass

    def end(self) -> None:
        for descriptor in self._ends:
            os.close(descriptor)


class Writer:
    def __init__(self, images: Images, name: str) -> None:
        self._images, self._name = images, name
        self._room = bytearray(65536 if name.startswith("pages-") else 7)

    def buffer(self) -> memoryview:
        return memoryview(self._room)

    def advance(self, count: int) -> None:
        self._images.images[self._name] += self._room[:count]

    def close(self) -> None:
        self._images.whole.add(self._name)


@pytest.fixture
def images() -> Iterator[Images]:
    made = Images()
    yield made
    made.end()


def put(watch: CoreWatch, name: str, data: bytes) -> None:
    writer = watch.open(name)
    while data:
        room = writer.buffer()
        count = min(len(room), len(data))
        room[:count] = data[:count]
        writer.advance(count)
        data = data[count:]
    writer.close()


# ---- what a core says --------------------------------------------------------------------------------------


@given(
    in_use=st.none() | st.integers(0, 2**64 - 1),
    stack=st.none() | st.tuples(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2, 1 << 31, 1 << 31 | 2])),
)
def test_a_core_says_whether_tiles_are_in_use_and_how_large_the_stack_is(
    in_use: int | None, stack: tuple[int, int] | None
) -> None:
    enabled = stack is not None and not stack[1] & 2
    assert tiles.read_core(core_image(in_use, stack)) == Core(
        in_use=bool((in_use or 0) & (TILECFG | TILEDATA)), stack_bytes=stack[0] if stack and enabled else None
    )


WHOLE = core_image(TILECFG, (8192, 0))


@given(st.binary(max_size=200) | st.integers(0, len(WHOLE) - 1).map(lambda length: WHOLE[:length]))
@example(WHOLE[:8] + struct.pack("<I", 11) + b"\x80" * 11)
@example(WHOLE[:8] + struct.pack("<I", 1) + b"\x0b")
def test_what_is_no_core_image_is_refused_as_such(data: bytes) -> None:
    with pytest.raises(CriuError, match="cannot be read"):
        tiles.read_core(data)


@pytest.mark.parametrize("in_use", [TILECFG, TILEDATA, TILECFG | TILEDATA | X87])
def test_an_image_of_a_thread_with_tiles_in_use_never_becomes_whole(images: Images, in_use: int) -> None:
    watch = CoreWatch(images, NEEDED_STACK)
    with pytest.raises(TilesInUseError, match="thread 9002"):
        put(watch, "core-9002.img", core_image(in_use, None))
    assert not images.whole


def test_every_image_passes_unchanged(images: Images) -> None:
    watch = CoreWatch(images, NEEDED_STACK)
    expected = {"core-1.img": core_image(X87, (65536, 0)), "pages-1.img": bytes(100_000), "mm-1.img": b"core-"}
    for name, data in expected.items():
        put(watch, name, data)
    assert images.images == expected
    assert images.whole == set(expected)


@pytest.mark.parametrize(
    ("stacks", "needed", "expected"),
    [
        ([None], NEEDED_STACK, True),
        ([(0, 2)], NEEDED_STACK, True),
        ([(NEEDED_STACK, 0), (65536, 0)], NEEDED_STACK, True),
        ([(65536, 0), (SMALL_STACK_BYTES, 0)], NEEDED_STACK, False),
        ([None], None, False),
    ],
    ids=["no stack", "no stack any more", "large stacks", "one small stack", "no tiles here"],
)
def test_a_tree_may_have_asked_for_tiles_unless_a_stack_is_too_small_for_them(
    images: Images, stacks: list[tuple[int, int] | None], needed: int | None, *, expected: bool
) -> None:
    watch = CoreWatch(images, needed)
    for number, stack in enumerate(stacks):
        put(watch, f"core-{number}.img", core_image(X87, stack))
    assert watch.may_have_asked() is expected


# ---- the library -------------------------------------------------------------------------------------------


def test_the_library_gives_the_permission_and_needs_no_other_library(tmp_path: Path) -> None:
    command = ["make", "--no-print-directory", "-C", str(LAUNCHER_SOURCE), f"BUILD={tmp_path}", "tiles"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    library = tmp_path / names.TILES_LIBRARY
    dynamic = subprocess.run(
        ["readelf", "--dynamic", "--dyn-syms", library], capture_output=True, text=True, timeout=10
    )
    assert "NEEDED" not in dynamic.stdout
    assert "GLOBAL" not in dynamic.stdout
    ask = (
        "import ctypes; room = ctypes.c_uint64();"
        "ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(room)); print(room.value >> 18 & 1)"
    )
    asked = subprocess.run(
        [sys.executable, "-c", ask], env={"LD_PRELOAD": str(library)}, capture_output=True, text=True, timeout=30
    )
    assert (asked.stdout, asked.stderr) == (f"{int(tiles.needed_stack_bytes() is not None)}\n", "")


# ---- CRIU --------------------------------------------------------------------------------------------------


class Moves:
    """Takes one job from capsule to capsule; its images are kept in memory."""

    def __init__(self, folder: Path, criu: CriuSettings, mode: str) -> None:
        self.criu = Criu(criu)
        self._folder, self._settings = folder, criu
        self._words = job_words("tiles", mode)
        self._count = 0
        self.job = self._capsule()
        self.job.start()
        self.job.expect("step")
        self._pipes: tuple[str, ...] = ()

    def dump(self, images: Images) -> DumpOutcome:
        """Stop the job, dump it and leave it stopped."""
        launcher = self.job.launcher_pid
        (root,) = (outer for outer, inner in self.job.members().items() if inner > names.PID_FLOOR)
        self._pipes = tuple(str(Path(f"/proc/{root}/fd/{fd}").readlink()) for fd in (1, 2))
        inner = entering.inner_pid(root)
        deadline = Deadline.after(PATIENCE_S)
        stop_tree(root, deadline)
        return self.criu.dump(entering.dump_entry(launcher), inner, images, deadline)

    def let_go(self) -> None:
        """Continue the job."""
        for outer in self.job.members():
            os.kill(outer, signal.SIGCONT)

    def restore(self, images: Images, *, may_use_tiles: bool) -> None:
        """Restore the dump into another capsule, the first one's job gone."""
        self.job.end()
        self.job = self._capsule()
        launcher = self.job.launcher_pid
        with self.job.held() as connection, contextlib.ExitStack() as stack:
            pipes = []
            for fd, identity in zip((1, 2), self._pipes, strict=True):
                descriptor = os.open(f"/proc/{launcher}/fd/{fd}", os.O_WRONLY)
                stack.callback(os.close, descriptor)
                pipes.append(InheritedPipe(descriptor=descriptor, identity=identity))
            entry, deadline = entering.restore_entry(launcher), Deadline.after(PATIENCE_S)
            self.criu.restore(entry, images, pipes, deadline, may_use_tiles=may_use_tiles)
            (inner,) = (inner for inner in self.job.members().values() if inner > names.PID_FLOOR)
            connection.adopt(inner, deadline)
        self.let_go()

    def next_step(self) -> int:
        """Wait for a line of a step and return its number."""
        return int(self.job.expect("step").split()[1])

    def end(self) -> None:
        self.job.end()

    def _capsule(self) -> PlainJob:
        folder = self._folder / str(self._count)
        self._count += 1
        job = PlainJob(folder, self._folder / "tmp", self._settings.launcher, self._words)
        job.await_launcher()
        return job


@pytest.fixture
def begin() -> Iterator[Callable[[str], Moves]]:
    """Begins a job of tests/jobs/tiles.py in a mode."""
    if tiles.needed_stack_bytes() is None:
        pytest.skip("needs a CPU with AMX's tiles (amx_tile)")
    if os.geteuid() != 0:
        pytest.skip("needs root, to enter the namespaces of jobs")
    for name in NEEDED:
        if not os.environ.get(name):
            pytest.skip(f"needs {name} in the environment; hack/test sets it")
    criu = settings.from_env({name: value for name, value in os.environ.items() if name in NEEDED}).criu
    with tempfile.TemporaryDirectory(prefix="crikpy-") as folder, contextlib.ExitStack() as stack:

        def make(mode: str) -> Moves:
            moves = Moves(Path(folder), criu, mode)
            stack.callback(moves.end)
            return moves

        yield make


@pytest.mark.criu
@pytest.mark.parametrize("mode", ["brief", "long"])
def test_a_job_goes_on_using_tiles_after_a_restore(
    begin: Callable[[str], Moves], images: Images, mode: str
) -> None:
    moves = begin(mode)
    outcome = moves.dump(images)
    assert outcome.tiles
    moves.restore(images, may_use_tiles=outcome.tiles)
    assert moves.next_step() > 0
    assert moves.next_step() > 1


@pytest.mark.criu
def test_a_job_that_computes_with_tiles_survives_dump_after_dump(begin: Callable[[str], Moves]) -> None:
    moves = begin("long")
    for _ in range(8):
        with contextlib.ExitStack() as stack:
            kept = Images()
            stack.callback(kept.end)
            moves.dump(kept)
            moves.let_go()
        before = moves.next_step()
        assert moves.next_step() > before


@pytest.mark.criu
def test_a_job_that_never_releases_its_tiles_is_not_touched(begin: Callable[[str], Moves], images: Images) -> None:
    moves = begin("keeping")
    with pytest.raises(TilesInUseError, match="keep AMX's tile registers"):
        moves.dump(images)
    assert not images.images
    before = moves.next_step()
    assert moves.next_step() > before


@pytest.mark.criu
def test_a_job_that_never_asked_for_tiles_keeps_its_small_signal_stack(
    begin: Callable[[str], Moves], images: Images
) -> None:
    moves = begin("small-stack")
    outcome = moves.dump(images)
    assert not outcome.tiles
    moves.restore(images, may_use_tiles=outcome.tiles)
    lines = [moves.job.expect("step") for _ in range(2)]
    assert all(line.endswith(f"stack {SMALL_STACK_BYTES}") for line in lines)
