"""An archive that somebody changed does nothing outside of its root, and is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crikpy.capsule.members import SPARSE_MAP, SPARSE_SIZE
from crikpy.errors import FilesystemError
from crikpy.model.manifest import FileArchive
from tests.capsule import trees

Entry = tuple[str, bytes, dict[str, object]]


def _archive(*entries: Entry, kind: str = "tree", root: str = "/tree") -> tuple[bytes, FileArchive]:
    """Make an archive that our writer never would: name, type, fields of the header or `pax` and `content`."""
    out = io.BytesIO()
    for name, form, fields in entries:
        info = tarfile.TarInfo(name)
        info.type = form
        content = fields.get("content", b"")
        assert isinstance(content, bytes)
        info.size = len(content)
        pax = fields.get("pax", {})
        assert isinstance(pax, dict)
        info.pax_headers = {"mtime": "1.5", **pax}
        for field, value in fields.items():
            if field not in {"content", "pax"}:
                setattr(info, field, value)
        out.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        out.write(content + bytes(-len(content) % 512))
    out.write(bytes(1024))
    return out.getvalue(), FileArchive(image="files/0.tar", kind=kind, root=root, entries=len(entries))


@pytest.fixture
def outside(memory: Path, there: Path) -> Path:
    """Return a directory beside the root, which must never change."""
    place = memory / "outside"
    place.mkdir()
    (place / "secret").write_text("secret")
    (place / "secret").chmod(0o600)
    (there / "tree").mkdir()
    return place


REG, DIR, LNK, SYM, CHR, BLK = (
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
)

HOSTILE: dict[str, tuple[str, list[Entry]]] = {
    "dots": ("name that is not allowed", [("../outside/secret", REG, {"content": b"x"})]),
    "dots inside": ("name that is not allowed", [("a/../../outside/secret", REG, {})]),
    "dot inside": ("name that is not allowed", [("a/./b", REG, {})]),
    "absolute": ("name that is not allowed", [("/outside/secret", REG, {})]),
    "absolute by pax": ("name that is not allowed", [("x", REG, {"pax": {"path": "/outside/secret"}})]),
    "empty": ("name that is not allowed", [("x", REG, {"pax": {"path": ""}})]),
    "double slash": ("name that is not allowed", [("a//b", REG, {})]),
    "nul": ("name that is not allowed", [("x", REG, {"pax": {"path": "a\0b"}})]),
    "through a link": (
        "symbolic links are not followed",
        [("out", SYM, {"linkname": "../../outside"}), ("out/secret", REG, {"content": b"x"})],
    ),
    "directory through a link": (
        "symbolic links are not followed",
        [("out", SYM, {"linkname": "../../outside"}), ("out/made", DIR, {"mode": 0o755})],
    ),
    "link into a loop": (
        "symbolic links are not followed",
        [("a", SYM, {"linkname": "a"}), ("a/b", REG, {})],
    ),
    "hard link outside": ("hard link to '../outside/secret'", [("x", LNK, {"linkname": "../outside/secret"})]),
    "hard link to shadow": ("hard link to '/etc/shadow'", [("x", LNK, {"linkname": "/etc/shadow"})]),
    "hard link to what was there": ("hard link to 'there'", [("x", LNK, {"linkname": "there"})]),
    "hard link to a link": (
        "hard link to 'out'",
        [("out", SYM, {"linkname": "../../outside/secret"}), ("x", LNK, {"linkname": "out"})],
    ),
    "hard link through a link": (
        "hard link to 'out/secret'",
        [("out", SYM, {"linkname": "../../outside"}), ("x", LNK, {"linkname": "out/secret"})],
    ),
    "replaced by a link": (
        "'a' is there twice",
        [("a", DIR, {}), ("a", SYM, {"linkname": "../../outside"}), ("a/secret", REG, {"content": b"x"})],
    ),
    "disk": ("unknown type", [("sda", BLK, {"devmajor": 8, "devminor": 0})]),
    "memory device": ("device node", [("mem", CHR, {"devmajor": 1, "devminor": 1})]),
    "zero device": ("device node", [("x", CHR, {})]),
    "whiteout in a tree": ("removes files", [("x", CHR, {"pax": {"CRIKPY.whiteout": "1"}})]),
    "opaque in a tree": ("removes files", [("x", DIR, {"pax": {"CRIKPY.opaque": "1"}})]),
    "newer header": ("does not know", [("x", REG, {"pax": {"CRIKPY.magic": "1"}})]),
    "overlay's attribute": ("never travels", [("x", DIR, {"pax": {"SCHILY.xattr.trusted.overlay.opaque": "y"}})]),
    "label": ("never travels", [("x", REG, {"pax": {"SCHILY.xattr.security.selinux": "y"}})]),
    "attribute with nul": ("never travels", [("x", REG, {"pax": {"SCHILY.xattr.user.%00": "y"}})]),
    "root is a link": ("root is not a plain directory", [(".", SYM, {"linkname": "/"})]),
    "owner": ("cannot be", [("x", REG, {"uid": 2**32 - 1})]),
    "negative owner": ("cannot be", [("x", REG, {"pax": {"uid": "-1"}})]),
    "no time": ("not as documented", [("x", REG, {"pax": {"mtime": "soon"}})]),
    "socket": ("unknown type", [("x", b"s", {})]),
    "global header": ("unknown type", [("x", tarfile.XGLTYPE, {})]),
    "long name of gnu": ("unknown type", [("x", tarfile.GNUTYPE_LONGNAME, {"content": b"x"})]),
    "directory with data": ("not as long", [("x", DIR, {"content": b"x"})]),
    "size by pax": ("it ends within 'x'", [("x", REG, {"pax": {"size": str(10**15)}})]),
    "huge file": ("beyond|cannot be", [("x", REG, {"pax": {SPARSE_SIZE: str(2**64), SPARSE_MAP: "0,0"}})]),
    "overlapping data": (
        "overlap",
        [("x", REG, {"content": b"xx", "pax": {SPARSE_SIZE: "9", SPARSE_MAP: "4,1,4,1"}})],
    ),
    "data beyond the end": (
        "beyond its end",
        [("x", REG, {"content": b"xx", "pax": {SPARSE_SIZE: "9", SPARSE_MAP: "8,2"}})],
    ),
    "negative data": ("overlap", [("x", REG, {"pax": {SPARSE_SIZE: "9", SPARSE_MAP: "-4,4,2,-4"}})]),
    "odd map": ("not as documented", [("x", REG, {"pax": {SPARSE_SIZE: "9", SPARSE_MAP: "1,2,3"}})]),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_members_are_refused_and_touch_nothing_outside(case: str, outside: Path, there: Path) -> None:
    why, entries = HOSTILE[case]
    (there / "tree/there").touch()
    before = trees.describe(outside)
    with pytest.raises(FilesystemError, match=why):
        trees.apply(*_archive(*entries), there)
    assert trees.describe(outside) == before
    assert not [name for name in trees.names(there / "tree") if name.startswith(".crikpy-")]


def test_a_link_of_the_target_is_not_written_through(outside: Path, there: Path) -> None:
    (there / "tree/out").symlink_to(outside)
    with pytest.raises(FilesystemError, match="symbolic links are not followed"):
        trees.apply(*_archive(("out/secret", REG, {"content": b"x"})), there)
    (there / "tree/final").symlink_to(outside / "secret")
    trees.apply(*_archive(("final", REG, {"content": b"x"})), there)
    assert (outside / "secret").read_text() == "secret"
    assert not (there / "tree/final").is_symlink()


def test_a_link_at_the_root_of_a_tree_is_not_followed(outside: Path, there: Path) -> None:
    (there / "elsewhere").symlink_to(outside)
    with pytest.raises(FilesystemError, match="symbolic links are not followed"):
        trees.apply(*_archive(("x", REG, {}), root="/elsewhere"), there)
    assert trees.names(outside) == ["secret"]


def test_a_whiteout_does_not_remove_through_a_link(outside: Path, there: Path) -> None:
    (there / "out").symlink_to(outside)
    gone: Entry = ("out/secret", CHR, {"pax": {"CRIKPY.whiteout": "1"}})
    with pytest.raises(FilesystemError, match="symbolic links are not followed"):
        trees.apply(*_archive(gone, kind="overlay", root="/"), there)
    trees.apply(*_archive(("out", CHR, {"pax": {"CRIKPY.whiteout": "1"}}), kind="overlay", root="/"), there)
    assert not (there / "out").is_symlink()
    assert (outside / "secret").exists()


def test_an_existing_file_is_never_opened_for_writing(outside: Path, there: Path) -> None:
    # As with /proc/sys/kernel/core_pattern: a file that can be written, in a place where none can be made.
    (there / "tree/second").hardlink_to(outside / "secret")
    trees.apply(*_archive(("second", REG, {"content": b"x", "mode": 0o4777})), there)
    assert (outside / "secret").read_text() == "secret"
    assert (outside / "secret").stat().st_mode & 0o7777 == 0o600


def test_members_below_a_mount_are_passed_over(outside: Path, there: Path) -> None:
    (there / "tree/disk/deep").mkdir(parents=True)
    entries: list[Entry] = [
        ("disk", DIR, {"mode": 0}),
        ("disk/f", REG, {"content": b"x" * 3000}),
        ("disk/deep/f", REG, {}),
        ("diskless", REG, {"content": b"y"}),
    ]
    assert trees.apply(*_archive(*entries), there, ["/tree/disk"]) == 1
    assert (there / "tree/diskless").read_bytes() == b"y"
    assert trees.names(there / "tree/disk") == ["deep"]
    assert (there / "tree/disk").stat().st_mode & 0o777


@pytest.mark.parametrize("name", [".crikpy/launch", ".crikpy", "run/criu.kdat", "proc/sys/kernel/x", "sys/x"])
def test_places_that_are_not_the_jobs_are_refused(name: str, there: Path) -> None:
    for kind in ("overlay", "files"):
        with pytest.raises(FilesystemError, match=r"belongs to crikpy|not a place for files"):
            trees.apply(*_archive((name, REG, {}), kind=kind, root="/"), there)
    assert not trees.names(there)


@pytest.mark.parametrize(
    ("kind", "root"),
    [
        ("tree", "/"), ("tree", "/proc"), ("tree", "/sys/fs"), ("tree", "/dev"), ("tree", "tree"), ("tree", ""),
        ("tree", "/a/../b"), ("tree", "//a"), ("tree", "/a/"), ("overlay", "/a"), ("files", "/a"), ("zip", "/"),
    ],
)  # fmt: skip
def test_a_manifest_cannot_send_an_archive_just_anywhere(kind: str, root: str, there: Path) -> None:
    with pytest.raises(FilesystemError):
        trees.apply(*_archive(("x", REG, {}), kind=kind, root=root), there)
    assert not trees.names(there)


@pytest.mark.parametrize("keep", ["", "a/b", "..", ".", "../x"])
def test_the_name_to_keep_by_cannot_lead_elsewhere(keep: str, there: Path) -> None:
    with pytest.raises(FilesystemError):
        trees.apply(*_archive(("x", REG, {}), kind="files", root="/"), there, keep=keep)


@pytest.mark.parametrize("form", [SYM, tarfile.FIFOTYPE, CHR])
def test_single_files_are_regular(form: bytes, there: Path) -> None:
    entry: Entry = ("x", form, {"linkname": "y", "devmajor": 1, "devminor": 3})
    with pytest.raises(FilesystemError, match="only regular files"):
        trees.apply(*_archive(entry, kind="files", root="/"), there)


def test_a_wrong_number_of_members_is_refused(there: Path) -> None:
    content, archive = _archive(("a", REG, {}), ("b", REG, {}))
    for entries in (1, 3):
        with pytest.raises(FilesystemError, match="2 members instead of"):
            trees.apply(content, dataclasses.replace(archive, entries=entries), there)


def test_an_extended_header_of_any_size_is_not_read(there: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2**33
    archive = FileArchive(image="files/0.tar", kind="tree", root="/tree", entries=1)
    with pytest.raises(FilesystemError, match="extended header has 8589934592 bytes"):
        trees.apply(header.tobuf(tarfile.GNU_FORMAT), archive, there)


def test_extended_headers_do_not_follow_each_other(there: Path) -> None:
    content, archive = _archive(("a", REG, {}))
    with pytest.raises(FilesystemError, match="unknown type"):
        trees.apply(content[:1024] + content, archive, there)


def _mend_checksums(content: bytearray) -> None:
    """Make damaged header blocks credible, so that the damage is met further in."""
    for start in range(0, len(content), 512):
        if content[start + 257 : start + 262] == b"ustar":
            content[start + 148 : start + 156] = b" " * 8
            content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_refused_or_harmless(data: st.DataObject, outside: Path, there: Path) -> None:
    content, archive = _archive(
        (".", DIR, {"mode": 0o755}),
        ("a", DIR, {"mode": 0o755, "pax": {"SCHILY.xattr.user.x": "y"}}),
        ("a/f", REG, {"content": b"content" * 99}),
        ("a/h", REG, {"content": b"xx", "pax": {SPARSE_SIZE: "9", SPARSE_MAP: "4,1,5,1"}}),
        ("b", SYM, {"linkname": "../../outside"}),
        ("c", LNK, {"linkname": "a/f"}),
    )
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        _mend_checksums(damaged)
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
    before = trees.describe(outside), len(trees.names(Path("/proc/self/fd")))
    with contextlib.suppress(FilesystemError):
        trees.apply(bytes(damaged), archive, there)
    assert (trees.describe(outside), len(trees.names(Path("/proc/self/fd")))) == before


@pytest.mark.parametrize("content", [b"", b"\0" * 1024, b"garbage" * 1000, b"\x1f\x8b" + bytes(600)])
def test_garbage_is_no_archive(content: bytes, there: Path) -> None:
    archive = FileArchive(image="files/0.tar", kind="tree", root="/tree", entries=1)
    with pytest.raises(FilesystemError, match=r"files/0\.tar"):
        trees.apply(content, archive, there)
