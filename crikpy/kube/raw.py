"""Reading raw JSON of the Kubernetes API without trust: what is absent, null or of another kind is the default.

The API server promises types but not presence, and Go's encoder writes `null` for empty lists. Objects also come
from webhooks of other people. Nothing here knows any kind of object.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

Json = dict[str, Any]


def mapping(value: object) -> Json:
    """Return a JSON object; anything else is an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> Iterator[Json]:
    """Return the JSON objects of a list; anything else is none."""
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def text(value: object, default: str = "") -> str:
    """Return a text; anything else is the default."""
    return value if isinstance(value, str) else default


def texts(value: object) -> tuple[str, ...]:
    """Return the texts of a list; anything else is none."""
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def number(value: object, default: int = 0) -> int:
    """Return a whole number; anything else is the default."""
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def time(value: object) -> datetime | None:
    """Return an aware time from RFC 3339 (metav1.Time, MicroTime); anything else is None."""
    try:
        found = datetime.fromisoformat(text(value))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def string_map(value: object) -> dict[str, str]:
    """Return an object's texts by name, as labels and annotations are; anything else is left out."""
    return {name: item for name, item in mapping(value).items() if isinstance(item, str)}
