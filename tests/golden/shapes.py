"""What a reader of JSON can rely on: which fields there are, of what type, and the words that decide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

_WORDS: Final = frozenset(
    {"apiVersion", "kind", "phase", "trigger", "effect", "operator", "mountPath", "subPath", "leaveRunning"}
)
"""Fields whose values decide what is done."""

_IDENTITIES: Final = ("type", "name", "key")
"""By which of its fields an item of a list is told from the others."""


def missing(before: Any, now: Any) -> list[str]:
    """Return what somebody who knows `before` does not find in `now`; what is more there does not matter."""
    found = dict(_shape(now, ""))
    return [
        f"{path}: {what} instead of {found.get(path, 'nothing')}"
        for path, what in _shape(before, "")
        if path not in found or what not in ("null", found[path])
    ]


def _shape(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield path and type of everything in a value."""
    match value:
        case dict():
            yield path, "object"
            for field, inner in value.items():
                if field in _WORDS and not isinstance(inner, dict | list):
                    yield f"{path}/{field}", repr(inner)
                else:
                    yield from _shape(inner, f"{path}/{field}")
        case list():
            yield path, "list"
            for number, item in enumerate(value):
                yield from _shape(item, f"{path}[{_identity(item, number)}]")
        case None:
            yield path, "null"
        case _:
            yield path, type(value).__name__


def _identity(item: Any, number: int) -> str:
    """Return what tells an item; texts and numbers by their place."""
    found = (item[field] for field in _IDENTITIES if field in item) if isinstance(item, dict) else iter(())
    return str(next(found, number))
