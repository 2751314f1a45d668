"""Reads the locks of Python packages that hack/python-lock writes.

Everything that is made of a lock (the audit, the bill of materials) takes its pins from here, and never writes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "daemonset/python"
OURS = "crikpy"
_ENTRY = re.compile(
    r"^(?P<pin>[A-Za-z0-9][^\\\n]*?) \\\n(?P<hashes>(?: {4}--hash=.*\n)+)(?P<via>(?: {4}#.*\n?)*)", re.MULTILINE
)


@dataclass(frozen=True)
class Pin:
    """One package of a lock.

    Attributes:
        name: as the index spells it.
        version: the only one that is installed.
        marker: on which Pythons and machines; empty for all.
        hashes: SHA-256, in hexadecimal, of the files that may be installed.
        needed_by: names of the packages that ask for it; OURS for what pyproject.toml asks for.
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    needed_by: tuple[str, ...]


def pins(path: Path) -> list[Pin]:
    """Return the packages of a lock, in its order.

    Raises:
        ValueError: it is none, or a line of it says something that no lock says.
    """
    text = path.read_text()
    found = [_pin(entry) for entry in _ENTRY.finditer(text)]
    rest = [line for line in _ENTRY.sub("", text).splitlines() if line.strip() and not line.startswith("#")]
    if rest or not found:
        raise ValueError(f"{path} is no lock: {rest[:1] or 'it is empty'}")
    return found


def _pin(entry: re.Match[str]) -> Pin:
    requirement = Requirement(entry["pin"])
    (exactly,) = requirement.specifier
    return Pin(
        name=requirement.name,
        version=exactly.version,
        marker=str(requirement.marker or ""),
        hashes=tuple(re.findall(r"sha256:([0-9a-f]{64})", entry["hashes"])),
        needed_by=tuple(
            word for word in re.findall(r"# +(?:via )?(\S+)$", entry["via"], re.MULTILINE) if word != "via"
        ),
    )
