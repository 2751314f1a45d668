"""The bytes of a manifest, and what must hold for one to be believed. docs/formats.md, "Manifest".

    {"format":1,"blake3":"<64 hex digits>","manifest":{...}}

The hash is over the exact bytes of the value of `manifest`, so a flipped bit is found although JSON would
still parse. The format is looked at before anything else. Reading ignores fields that it does not know;
writing is deterministic: the same manifest is always the same bytes.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from blake3 import blake3

from crikpy.errors import FormatVersionError, IntegrityError
from crikpy.model.manifest import Extent, Manifest, StoredImage
from crikpy.names import FORMAT_VERSION
from crikpy.store.chunks import CHUNK_BYTES, refuse_sealed
from crikpy.store.layout import is_checkpoint_id, is_chunk_name

_IMAGE: Final = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,255}(/(?!\.)[A-Za-z0-9._-]{1,255}){0,3}")


class _FormatOnly(msgspec.Struct):
    format: int


class Whose(msgspec.Struct, frozen=True):
    """What every format says in one place: whose pod a checkpoint is of, and which workloads were saved as one."""

    pod: str = ""
    pod_uid: str = ""
    together: tuple[str, ...] = ()


class _OriginOnly(msgspec.Struct):
    origin: Whose


class _ManifestOnly(msgspec.Struct):
    manifest: _OriginOnly


class _Wrapper(msgspec.Struct):
    format: int
    blake3: str
    manifest: msgspec.Raw


_manifest_decoder: Final = msgspec.json.Decoder(Manifest)
_wrapper_decoder: Final = msgspec.json.Decoder(_Wrapper)
_format_decoder: Final = msgspec.json.Decoder(_FormatOnly)
_whose_decoder: Final = msgspec.json.Decoder(_ManifestOnly)


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes to store.

    Raises:
        IntegrityError: it contradicts itself; it is never written then.
    """
    _require_sound(manifest)
    inner = msgspec.json.encode(manifest)
    wrapper = _Wrapper(format=manifest.format, blake3=blake3(inner).hexdigest(), manifest=msgspec.Raw(inner))
    return msgspec.json.encode(wrapper) + b"\n"


def decode_manifest(data: bytes) -> Manifest:
    """Return the manifest.

    Raises:
        FormatVersionError: a newer release wrote it, or it is sealed and nobody has opened it.
        IntegrityError: it is not what was written, or contradicts itself.
    """
    refuse_sealed(data, "the manifest")
    try:
        _require_known_format(_format_decoder.decode(data).format)
        wrapper = _wrapper_decoder.decode(data)
        if blake3(wrapper.manifest).hexdigest() != wrapper.blake3:
            raise IntegrityError("the manifest is damaged: its bytes do not match its hash")
        manifest = _manifest_decoder.decode(wrapper.manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise IntegrityError(f"the manifest is damaged: {fault}") from fault
    if manifest.format != wrapper.format:
        raise IntegrityError("the manifest is damaged: it names two formats")
    _require_sound(manifest)
    return manifest


def read_whose(data: bytes) -> Whose:
    """Return what a manifest of a newer format says of its pod; nothing where it does not say it as we do.

    No bytes are compared with their hash, of which the format may be another: good for leaving something alone, or
    for claiming it, and never for resuming.
    """
    try:
        return _whose_decoder.decode(data).manifest.origin
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Whose()


def _require_known_format(version: int) -> None:
    if version > FORMAT_VERSION:
        raise FormatVersionError(
            f"the checkpoint has format {version}; this release of crikpy knows formats up to {FORMAT_VERSION}",
            remedy="use the release of crikpy that wrote it, or a newer one",
        )
    if version < 1:
        raise IntegrityError(f"the manifest is damaged: there is no format {version}")


def _require_sound(manifest: Manifest) -> None:
    if not is_checkpoint_id(manifest.checkpoint):
        raise IntegrityError(f"the manifest names a checkpoint {manifest.checkpoint!r}, which is no id")
    seen: set[str] = set()
    for image in manifest.images:
        if not _IMAGE.fullmatch(image.name) or image.name in seen:
            raise IntegrityError(f"the manifest has an image {image.name!r} that cannot be, or has it twice")
        seen.add(image.name)
        _require_sound_image(image)
    for archive in manifest.archives:
        if archive.image not in seen:
            raise IntegrityError(f"the manifest has an archive in {archive.image!r}, which is no image")


def _require_sound_image(image: StoredImage) -> None:
    if any(not _is_sound(extent) for extent in image.extents):
        raise IntegrityError(f"image {image.name} has an extent that cannot be")
    if sum(extent.length for extent in image.extents) != image.size:
        raise IntegrityError(f"the extents of image {image.name} do not cover its {image.size} bytes")


def _is_sound(extent: Extent) -> bool:
    if extent.chunk is None:
        return extent.offset == 0 and extent.length > 0
    inside = 0 <= extent.offset < extent.offset + extent.length <= CHUNK_BYTES
    return inside and is_chunk_name(extent.chunk)
