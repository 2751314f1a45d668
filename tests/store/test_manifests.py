"""The bytes of a manifest: they come back, damage is found, and they stay what they are across releases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from crikpy.errors import FormatVersionError, IntegrityError
from crikpy.model.manifest import (
    Extent,
    FileArchive,
    Manifest,
    OpenFile,
    ProcessFact,
    StdioEnd,
    StoredImage,
)
from crikpy.model.network import Address, Network
from crikpy.model.workload import Workload
from crikpy.store.chunks import CHUNK_BYTES
from crikpy.store.manifests import decode_manifest, encode_manifest
from tests.store.images import manifest_of

ID = "20250131T120000Z-0123abcd"
WORKLOAD = Workload(cluster="plain", namespace="default", name="train")
HASH = "0123456789abcdef" * 4

_GOLDEN = (
    b'{"format":1,"blake3":"@","manifest":'
    b'{"format":1,"checkpoint":"20250131T120000Z-0123abcd","workload":"plain/default/train",'
    b'"created":"2025-01-31T12:00:00Z","release":"0.1.0",'
    b'"origin":{"host":"node-a","instance":"i-0123456789abcdef0","boot_id":"boot","trigger":"Manual","notice":"",'
    b'"pod":"","pod_uid":"","together":[],"group":"","set":"","trace":""},'
    b'"job":{"command":["train"],"root_pid":9001,"highest_pid":9003,"processes":[],"stdio":[],"stopped":[],"tiles":false,'
    b'"apparmor":"","container_apparmor":"","cuda":[],"alarmed":[],"lost_sessions":false},'
    b'"compatibility":{"architecture":"x86_64","page_size":4096,"kernel":"6.18","criu":"4.2.1","cpu_model":"",'
    b'"cpu_features":["sse2"],"image":"","gpus":{"driver":"","models":[],"uuids":[],"on_node":0}},'
    b'"images":[{"name":"pages-1.img","size":12288,'
    b'"extents":[[null,0,4096],["0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",4096,8192]]}],'
    b'"archives":[],"open_files":[],"own_files":[],"network":{"addresses":[],"bound":[],"devices":[],"ipv6":false},'
    b'"sizes":{"image_bytes":0,"zero_bytes":0,"reused_bytes":0,"stored_bytes":0,"chunks":0},"frozen_s":0.0,"mode":"process"}}\n'
)
"""A manifest, with `@` in place of its hash."""

_FIRST = (
    _GOLDEN.replace(b',"pod":"","pod_uid":"","together":[],"group":"","set":"","trace":""', b"")
    .replace(b',"apparmor":"","container_apparmor":"","cuda":[],"alarmed":[],"lost_sessions":false', b"")
    .replace(b',"gpus":{"driver":"","models":[],"uuids":[],"on_node":0}', b"")
    .replace(b'"own_files":[],"network":{"addresses":[],"bound":[],"devices":[],"ipv6":false},', b"")
    .replace(b',"mode":"process"', b"")
)
"""The same of the first release, which knew nothing of pods, their networks, GPUs and modes."""


def image(*extents: Extent, name: str = "pages-1.img") -> StoredImage:
    return StoredImage(name=name, size=sum(extent.length for extent in extents), extents=extents)


def golden() -> Manifest:
    return manifest_of(WORKLOAD, ID, (image(Extent(None, 0, 4096), Extent(HASH, 4096, 8192)),))


def wrapped(inner: bytes, version: int = 1) -> bytes:
    """Return an intact object around any value."""
    return b'{"format":%d,"blake3":"%s","manifest":%s}' % (version, blake3(inner).hexdigest().encode(), inner)


def changed(**changes: Any) -> bytes:
    """Return an intact object of a manifest with other fields."""
    fields = msgspec.json.decode(msgspec.json.encode(golden()))
    return wrapped(msgspec.json.encode(fields | changes))


_FULL = replace(
    golden(),
    images=(*golden().images, image(Extent(HASH, 0, 512), name="files/0.tar")),
    archives=(FileArchive(image="files/0.tar", kind="overlay", root="/", entries=1),),
    open_files=(OpenFile(path="/lib/libc.so.6", size=1, build_id="ab"),),
    own_files=("/etc/hosts",),
    network=Network(addresses=(Address(interface="eth0", address="10.0.0.1"),), bound=("10.0.0.1",)),
    job=replace(
        golden().job,
        processes=(ProcessFact(pid=9001, parent=1, command="train", threads=1, resident_bytes=4096),),
        stdio=(StdioEnd(fd=1, target="pipe:[1]"),),
    ),
)
"""A manifest with something in each of its lists."""

texts = st.text(max_size=20)
extents = st.one_of(
    st.builds(Extent, st.none(), st.just(0), st.integers(1, 2**40)),
    st.builds(Extent, st.just(HASH), st.integers(0, 1000), st.integers(1, CHUNK_BYTES - 1000)),
)
manifests = st.builds(
    lambda count, parts, files, facts, ends: replace(
        golden(),
        images=tuple(
            image(*part, name=f"image-{number}.img") for number, part in zip(range(count), parts, strict=False)
        ),
        open_files=tuple(files),
        job=replace(golden().job, processes=tuple(facts), stdio=tuple(ends)),
    ),
    st.integers(0, 5),
    st.lists(st.lists(extents, max_size=5), min_size=5, max_size=5),
    st.lists(st.builds(OpenFile, path=texts, size=st.integers(0, 2**60), build_id=texts), max_size=3),
    st.lists(
        st.builds(
            ProcessFact,
            pid=st.integers(1, 2**22),
            parent=st.integers(0, 2**22),
            command=texts,
            threads=st.integers(1, 1000),
            resident_bytes=st.integers(0, 2**50),
        ),
        max_size=3,
    ),
    st.lists(st.builds(StdioEnd, fd=st.integers(0, 2), target=texts), max_size=3),
)


@given(manifests)
@settings(deadline=None)
def test_what_was_written_comes_back_and_is_always_the_same_bytes(manifest: Manifest) -> None:
    data = encode_manifest(manifest)
    assert decode_manifest(data) == manifest
    assert encode_manifest(decode_manifest(data)) == data


@given(st.data())
@settings(deadline=None)
def test_a_flipped_bit_is_never_believed(data: st.DataObject) -> None:
    written = bytearray(encode_manifest(golden()))
    bit = data.draw(st.integers(0, len(written) * 8 - 1))
    written[bit // 8] ^= 1 << bit % 8
    try:
        found = decode_manifest(bytes(written))
    except (IntegrityError, FormatVersionError):
        return
    assert found == golden()


def test_a_manifest_cut_short_anywhere_is_refused() -> None:
    data = encode_manifest(golden()).rstrip()
    for length in range(len(data)):
        with pytest.raises(IntegrityError):
            decode_manifest(data[:length])


@given(st.binary(max_size=200))
def test_bytes_that_were_never_a_manifest_are_refused(garbage: bytes) -> None:
    with pytest.raises((IntegrityError, FormatVersionError)):
        decode_manifest(garbage)


def test_deeply_nested_garbage_is_refused() -> None:
    with pytest.raises(IntegrityError):
        decode_manifest(b'{"format":1,"more":' + b"[" * 100_000)


def hashed(pattern: bytes) -> bytes:
    """Return a manifest with its hash put in."""
    inner = pattern[pattern.index(b'"manifest":') + len(b'"manifest":') : -2]
    return pattern.replace(b"@", blake3(inner).hexdigest().encode())


def test_golden_bytes() -> None:
    assert encode_manifest(golden()) == hashed(_GOLDEN)
    assert decode_manifest(hashed(_GOLDEN)) == golden()


def test_a_manifest_of_the_first_release_is_read() -> None:
    assert b"pod" not in _FIRST
    assert decode_manifest(hashed(_FIRST)) == golden()


def test_a_newer_format_is_named_before_anything_else_is_looked_at() -> None:
    for data in (wrapped(b'{"format":2}', 2), b'{"format":2}', b'{"manifest":[1],"format":99,"blake3":0}'):
        with pytest.raises(FormatVersionError, match="knows formats up to 1") as caught:
            decode_manifest(data)
        assert caught.value.remedy == "use the release of crikpy that wrote it, or a newer one"


def test_a_format_that_never_was_is_damage() -> None:
    with pytest.raises(IntegrityError):
        decode_manifest(wrapped(b"{}", 0))


def test_two_formats_in_one_manifest_are_damage() -> None:
    with pytest.raises(IntegrityError, match="two formats"):
        decode_manifest(changed(format=2))


def test_fields_of_later_releases_are_ignored_wherever_they_stand() -> None:
    assert decode_manifest(wrapped(msgspec.json.encode(_with_novelties(_FULL)))) == _FULL
    outer = wrapped(msgspec.json.encode(_FULL)).replace(b'"blake3"', b'"novelty":[{"deep":1}],"blake3"', 1)
    assert decode_manifest(outer) == _FULL


def _with_novelties(value: Any) -> Any:
    """Return a manifest, or a part of one, with a further field in each of its objects."""
    plain = msgspec.json.decode(msgspec.json.encode(value)) if isinstance(value, Manifest) else value
    match plain:
        case dict():
            return {**{field: _with_novelties(inner) for field, inner in plain.items()}, "novelty": {"deep": [1]}}
        case list():
            return [_with_novelties(item) for item in plain]
    return plain


def test_what_a_later_release_may_leave_out_or_add_as_a_word_is_read() -> None:
    fields = msgspec.json.decode(msgspec.json.encode(_FULL))
    fields["origin"] |= {"trigger": "Eclipse"}
    for optional in ("archives", "open_files", "own_files", "network", "sizes", "frozen_s"):
        del fields[optional]
    found = decode_manifest(wrapped(msgspec.json.encode(fields)))
    assert found.origin.trigger == "Eclipse"
    assert found.images == _FULL.images


@pytest.mark.parametrize("missing", ["checkpoint", "images", "job", "compatibility"])
def test_a_missing_field_is_damage(missing: str) -> None:
    fields = msgspec.json.decode(msgspec.json.encode(golden()))
    del fields[missing]
    with pytest.raises(IntegrityError, match=missing):
        decode_manifest(wrapped(msgspec.json.encode(fields)))


@pytest.mark.parametrize(
    "extent",
    [
        Extent(HASH, -1, 10),
        Extent(HASH, 0, 0),
        Extent(HASH, 0, -5),
        Extent(HASH, 0, CHUNK_BYTES + 1),
        Extent(HASH, CHUNK_BYTES, 1),
        Extent(HASH.upper(), 0, 1),
        Extent(HASH[:-1], 0, 1),
        Extent("../" + HASH[3:], 0, 1),
        Extent(None, 1, 1),
        Extent(None, 0, 0),
    ],
)
def test_extents_that_cannot_be_are_refused_on_both_ways(extent: Extent) -> None:
    bad = replace(golden(), images=(image(extent),))
    with pytest.raises(IntegrityError):
        encode_manifest(bad)
    with pytest.raises(IntegrityError):
        decode_manifest(wrapped(msgspec.json.encode(bad)))


def test_extents_must_cover_exactly_the_size() -> None:
    for size in (0, 4095, 4097):
        bad = replace(golden(), images=(replace(image(Extent(None, 0, 4096)), size=size),))
        with pytest.raises(IntegrityError, match="do not cover"):
            decode_manifest(wrapped(msgspec.json.encode(bad)))


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".hidden", "a\nb", "a\0b", "a b"]
)
def test_names_of_images_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(IntegrityError, match="image"):
        decode_manifest(wrapped(msgspec.json.encode(replace(golden(), images=(image(name=name),)))))


def test_one_image_cannot_be_there_twice() -> None:
    with pytest.raises(IntegrityError, match="twice"):
        encode_manifest(replace(golden(), images=(image(), image())))


def test_an_archive_must_be_in_an_image() -> None:
    archive = FileArchive(image="files/0.tar", kind="overlay", root="/", entries=1)
    with pytest.raises(IntegrityError, match="no image"):
        encode_manifest(replace(golden(), archives=(archive,)))
    encode_manifest(replace(golden(), archives=(archive,), images=(image(name="files/0.tar"),)))


def test_a_checkpoint_must_have_an_id() -> None:
    with pytest.raises(IntegrityError, match="no id"):
        encode_manifest(replace(golden(), checkpoint="../other"))
