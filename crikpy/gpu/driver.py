"""What NVIDIA's driver tells of itself and of the node's GPUs, as files.

Sources: /proc/driver/nvidia/version and /proc/driver/nvidia/gpus/<bus address>/information of the driver (its
README, chapter "/proc interface"). Nothing of the driver is called here, and what cannot be read is as if it were
not there: a node without the driver is the ordinary one.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crikpy.model.manifest import GpuFacts

_LONGEST: Final = 65536
_MOST_GPUS: Final = 256
_VERSION: Final = re.compile(r"^NVRM version:.*?\s(\d{1,6}(?:\.\d{1,6}){1,3})\s", re.MULTILINE)
_FIELD: Final = re.compile(r"^([A-Za-z][A-Za-z ]*?):\s*(.*?)\s*$", re.MULTILINE)
_BUS: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]", re.IGNORECASE)
_UUID: Final = re.compile(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU of the node.

    Attributes:
        bus: its PCI address.
        minor: N of its device node /dev/nvidiaN.
        model: such as `NVIDIA A100-SXM4-40GB`.
        uuid: `GPU-…`, or empty while the driver does not know: nobody has used it since the driver was loaded.
    """

    bus: str
    minor: int
    model: str
    uuid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """The driver that the node has loaded.

    Attributes:
        version: such as `570.124.06`.
        gpus: in the order of their bus addresses, which is CUDA's among GPUs of one model.
    """

    version: str
    gpus: tuple[Gpu, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version as numbers, to be compared."""
        return numbers(self.version)

    def seen_with(self, minors: Collection[int]) -> GpuFacts:
        """Return the facts of a capsule that has these device nodes."""
        seen = [gpu for gpu in self.gpus if gpu.minor in minors]
        return GpuFacts(
            driver=self.version,
            models=tuple(gpu.model for gpu in seen),
            uuids=tuple(gpu.uuid for gpu in seen),
            on_node=len(self.gpus),
        )


def read_driver(folder: Path) -> Driver | None:
    """Return the driver that tells of itself in a folder, usually /proc/driver/nvidia; None when there is none."""
    version = parse_version(_text(folder / "version"))
    if not version:
        return None
    found: list[Gpu] = []
    try:
        entries = sorted(entry for entry in (folder / "gpus").iterdir() if _BUS.fullmatch(entry.name))
    except OSError:
        entries = []
    for entry in entries[:_MOST_GPUS]:
        gpu = parse_information(entry.name, _text(entry / "information"))
        if gpu is not None:
            found.append(gpu)
    return Driver(version=version, gpus=tuple(found))


def parse_version(text: str) -> str:
    """Return the driver's version out of the text of its file `version`, or nothing."""
    found = _VERSION.search(text)
    return found[1] if found else ""


def parse_information(bus: str, text: str) -> Gpu | None:
    """Return what a file `information` tells of a GPU; None where it does not say which device node it has."""
    fields: dict[str, str] = {}
    for name, value in _FIELD.findall(text):
        fields.setdefault(name, value)
    minor = fields.get("Device Minor", "")
    if not (minor.isascii() and minor.isdigit() and len(minor) < 5):
        return None
    uuid = fields.get("GPU UUID", "")
    return Gpu(
        bus=bus,
        minor=int(minor),
        model=fields.get("Model", "") or "unnamed",
        uuid=uuid if is_uuid(uuid) else "",
    )


def is_uuid(text: str) -> bool:
    """Say whether a text is the UUID of a GPU."""
    return _UUID.fullmatch(text) is not None


def numbers(version: str) -> tuple[int, ...]:
    """Return a driver's version as numbers; of one that is none, nothing."""
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isascii() and part.isdigit() for part in parts) else ()


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST).decode(errors="replace")
    except OSError:
        return ""
