"""Groups of settings out of an environment: names, types and units follow from the fields and their defaults.

Reading never stops at the first bad value: one SettingsError lists them all. Nothing here knows a setting.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from crikpy import names
from crikpy.errors import SettingsError

_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
_SIZE = re.compile(r"(-?[0-9]{1,18})(|Ki|Mi|Gi)")
_T = TypeVar("_T")


def read(kind: type[_T], environ: Mapping[str, str]) -> _T:
    """Read a dataclass of groups, each a dataclass of settings with defaults, from `CRIKPY_<GROUP>_<FIELD>`.

    Raises:
        SettingsError: naming every variable with a bad value, and every unknown variable of ours.
    """
    faults: list[str] = []
    known: set[str] = set()
    factories: dict[str, Callable[[], object]] = {
        group.name: group.default_factory
        for group in fields(kind)  # type: ignore[arg-type]  # it is a dataclass
        if callable(group.default_factory)
    }
    groups = {name: _read_group(name, factory(), environ, known, faults) for name, factory in factories.items()}
    ours = tuple(f"{names.ENV_PREFIX}{name.upper()}_" for name in factories)
    faults += [
        f"{name}: no such setting" for name in sorted(environ) if name.startswith(ours) and name not in known
    ]
    if faults:
        raise SettingsError("; ".join(faults), remedy="see docs/settings.md for names and values")
    return kind(**groups)


def _read_group(group: str, default: Any, environ: Mapping[str, str], known: set[str], faults: list[str]) -> Any:
    values: dict[str, object] = {}
    for item in fields(default):
        name = f"{names.ENV_PREFIX}{group}_{item.name}".upper()
        known.add(name)
        if name not in environ:
            continue
        try:
            values[item.name] = _parse(environ[name], getattr(default, item.name))
        except ValueError as fault:
            faults.append(f"{name}={environ[name]!r}: {fault}")
    return type(default)(**values)


def _parse(text: str, default: object) -> object:
    """Turn text into the type of the default; the units are in the names of the fields."""
    if isinstance(default, bool):
        return _parse_bool(text)
    if isinstance(default, int):
        return _parse_size(text, least=-(10**18) if default < 0 else min(default, 1))
    if isinstance(default, float):
        return _parse_seconds(text)
    if isinstance(default, Path):
        if not text.startswith("/"):
            raise ValueError("must be an absolute path")
        return Path(text)
    return text


def _parse_bool(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise ValueError("must be true or false")
    return words[text.lower()]


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError("must be a number above 0")
    return seconds


def _parse_size(text: str, *, least: int) -> int:
    """Read a whole number, with Ki, Mi or Gi behind it where a size in bytes is meant."""
    found = _SIZE.fullmatch(text)
    number = int(found[1]) * _UNITS[found[2]] if found else 0
    if found is None or number < least:
        bound = "" if least < 0 else " above 0" if least else ", 0 or more"
        raise ValueError(f"must be a whole number{bound}")
    return number
