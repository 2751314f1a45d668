"""A node as it would be without crikpy: what takes our labels, annotations, conditions, taint and cordon off it.

What is somebody else's stays: a cordon without our annotation, other taints.
"""

from __future__ import annotations

from typing import Final

from crikpy import names
from crikpy.controller.marking import render_marks
from crikpy.kube.raw import Json, items, mapping, text

_LABELS: Final = (names.LABEL_READY, names.LABEL_CPU, names.LABEL_FAMILY)
_ANNOTATIONS: Final = (names.CORDONED, names.UNCORDONED, names.REPORTED, names.CPU_FEATURES)
_CONDITIONS: Final = (names.CONDITION_READY, names.CONDITION_NOTICE)


def render_unmarked(raw: Json) -> Json | None:
    """Return the merge patch that takes off a node, as it was just read, all but our conditions; None without any.

    It names the resource version, since it replaces the whole list of taints.
    """
    metadata = mapping(raw.get("metadata"))
    patch = render_marks(raw, None) or {"metadata": {"resourceVersion": text(metadata.get("resourceVersion"))}}
    changed = "spec" in patch
    for part, ours in (("labels", _LABELS), ("annotations", _ANNOTATIONS)):
        found = mapping(metadata.get(part)).keys() & set(ours)
        if found:
            patch["metadata"][part] = mapping(patch["metadata"].get(part)) | dict.fromkeys(sorted(found))
            changed = True
    return patch if changed else None


def render_without_conditions(raw: Json) -> Json | None:
    """Return the strategic patch of `status` that takes our conditions off a node; None without any."""
    conditions = items(mapping(raw.get("status")).get("conditions"))
    found = sorted(kind for each in conditions if (kind := text(each.get("type"))) in _CONDITIONS)
    if not found:
        return None
    return {"status": {"conditions": [{"$patch": "delete", "type": kind} for kind in found]}}
