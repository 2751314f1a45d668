"""Rules of the API server that need no server: selectors and patches. Part of tests.fakes.kube."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]

FIELDS = {
    "pods": ("spec.nodeName", "status.phase"),
    "checkpoints": ("spec.nodeName",),
    "events": ("involvedObject.name", "involvedObject.namespace", "involvedObject.uid", "reason", "type"),
    "secrets": ("type",),
}
"""Fields that can be selected by, besides the name and the namespace (and `selectableFields` of our CRD)."""

MERGE_KEYS = {
    "conditions": "type",
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "ownerReferences": "uid",
}
"""Lists that a strategic merge patch or an apply merges by a key; all others are replaced whole, taints too."""


class RefusedError(Exception):
    """A request that the API server refuses, with its status."""

    def __init__(self, code: int, reason: str, message: str, *, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}

    def status(self) -> Json:
        """Return the Status object of the answer."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def dig(target: Json, path: str) -> Any:
    """Return the value at a dotted path, or None."""
    found: Any = target
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def field_test(plural: str, selector: str) -> Callable[[Json], bool]:
    """Return what decides whether an object is selected by its fields."""
    terms = []
    for term in filter(None, selector.split(",")):
        found = re.fullmatch(r"([\w.]+)(==|=|!=)(.*)", term)
        if found is None:
            raise RefusedError(400, "BadRequest", f"invalid selector: '{term}'")
        path, operator, value = found.groups()
        if path not in ("metadata.name", "metadata.namespace", *FIELDS.get(plural, ())):
            raise RefusedError(400, "BadRequest", f"field label not supported: {path}")
        terms.append((path, operator == "!=", value))
    return lambda target: all(((dig(target, path) or "") == value) != negated for path, negated, value in terms)


def label_test(selector: str) -> Callable[[Json], bool]:
    """Return what decides whether an object is selected by its labels."""
    terms = [_label_term(term.strip()) for term in re.split(r",(?![^(]*\))", selector) if term.strip()]
    return lambda target: all(term(dig(target, "metadata.labels") or {}) for term in terms)


def _label_term(term: str) -> Callable[[Json], bool]:
    if found := re.fullmatch(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)", term):
        key, negated, values = found[1], found[2] == "notin", {value.strip() for value in found[3].split(",")}
        return lambda labels: (labels.get(key) in values) != negated
    if found := re.fullmatch(r"([^\s!=]+)\s*(==|=|!=)\s*(\S*)", term):
        name, wanted, unequal = found[1], found[3], found[2] == "!="
        return lambda labels: (labels.get(name) == wanted) != unequal
    if found := re.fullmatch(r"(!?)([^\s!=]+)", term):
        return lambda labels: (found[2] in labels) != bool(found[1])
    raise RefusedError(400, "BadRequest", f"unable to parse requirement: {term}")


def merged(target: Any, patch: Any, *, by_key: bool) -> Any:
    """Return the target with an RFC 7396 patch applied; by_key merges the lists of MERGE_KEYS by their keys."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif by_key and name in MERGE_KEYS and isinstance(value, list):
            result[name] = _merged_list(result.get(name) or [], value, MERGE_KEYS[name])
        else:
            result[name] = merged(result.get(name), value, by_key=by_key)
    return result


def _merged_list(target: list[Json], patch: list[Json], key: str) -> list[Json]:
    result = copy.deepcopy(target)
    for item in patch:
        place = next((at for at, old in enumerate(result) if old.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            if place is not None:
                del result[place]
        elif place is None:
            result.append(copy.deepcopy(item))
        else:
            result[place] = merged(result[place], item, by_key=True)
    return result


def json_patched(target: Json, patch: list[Json]) -> Json:
    """Return the target with an RFC 6902 patch applied; `copy` and `move` are not known here."""
    result = copy.deepcopy(target)
    for step in patch:
        try:
            _json_step(result, step)
        except (KeyError, IndexError, TypeError, ValueError) as fault:
            message = f"the server rejected our request due to an error in our request: {fault!r} at {step}"
            raise RefusedError(422, "Invalid", message) from fault
    return result


def _json_step(root: Any, step: Json) -> None:
    *way, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
    for part in way:
        root = root[int(part)] if isinstance(root, list) else root[part]
    place: Any = (len(root) if last == "-" else int(last)) if isinstance(root, list) else last
    if step["op"] == "test":
        if root[place] != step["value"]:
            raise ValueError("testing value failed")
    elif step["op"] == "remove":
        del root[place]
    elif step["op"] == "replace":
        root[place]
        root[place] = step["value"]
    elif step["op"] == "add" and isinstance(root, list):
        root.insert(place, step["value"])
    elif step["op"] == "add":
        root[place] = step["value"]
    else:
        raise ValueError("unknown operation")
