"""Times as crikpy writes them into objects: RFC 3339 in UTC. crikpy.kube.raw reads them."""

from __future__ import annotations

from datetime import UTC, datetime


def render_time(when: datetime) -> str:
    """Return an aware time as `2026-11-24T10:00:00Z`, with microseconds where there are any."""
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def render_seconds(when: datetime) -> str:
    """Return an aware time in whole seconds, for kinds whose times have no more (metav1.Time)."""
    return render_time(when.replace(microsecond=0))
