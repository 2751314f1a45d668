"""Sizes, ages and lists of names as people read them, the same wherever they are told."""

from __future__ import annotations

from collections.abc import Sequence


def human_size(size_bytes: float) -> str:
    """Return a size for people in powers of 1024, such as `1.2 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"


def human_age(seconds: float) -> str:
    """Return an age for people in its largest unit of which there are at least two, such as `3h`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f}{unit}"
    return f"{max(0, int(seconds))}s"


def human_span(seconds: float) -> str:
    """Return a length of time for people in its two largest units, such as `1 min 43 s`; negative is none."""
    left = max(0, int(seconds))
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if left >= size:
            return f"{left // size} {unit} {left % size // smaller} {name}"
    return f"{left} s"


def some_of(names: Sequence[str], most: int) -> str:
    """Return the first names of a list, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
