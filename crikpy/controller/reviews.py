"""The envelope in which the API server asks and is answered (admission.k8s.io/v1, AdmissionReview).

Only the envelope: what is allowed, and what is changed, is decided in crikpy.controller.admission. A change
travels as a JSON patch (RFC 6902), which is made here by comparing two objects, so that whoever changes one
simply makes another and cannot forget an operation.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any, Final

from crikpy.errors import UsageError
from crikpy.kube import raw
from crikpy.kube.raw import Json

_API: Final = "admission.k8s.io/v1"
_UNPROCESSABLE: Final = 422
_LONGEST_WARNING = 250
"""The API server cuts warnings at 256 characters ("Dynamic Admission Control", response)."""

_MOST_WARNINGS = 15
"""Together below the 4096 characters beyond which the API server drops all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What the API server asks about one request.

    Attributes:
        uid: of the question; the answer repeats it.
        operation: `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
        kind: of the object, such as `Pod`.
        namespace: of the request; a pod that is being made may not name its own yet.
        object: as it would be stored.
        old_object: as it is stored; empty when it is being made.
    """

    uid: str
    operation: str
    kind: str
    namespace: str
    object: Json
    old_object: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer.

    Attributes:
        refusal: why the request is refused, in a sentence for its user; empty allows it.
        warnings: sentences that `kubectl` shows to whoever sent the request.
        changed: the object that takes the place of the one that was sent; None leaves that as it is.
    """

    refusal: str = ""
    warnings: tuple[str, ...] = ()
    changed: Json | None = None


def parse_review(body: bytes) -> Review:
    """Return the question of a request's body.

    Raises:
        UsageError: that is not an AdmissionReview of version 1 with an object.
    """
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError) as fault:
        raise UsageError(f"not JSON: {fault}") from fault
    envelope = raw.mapping(envelope)
    if (envelope.get("apiVersion"), envelope.get("kind")) != (_API, "AdmissionReview"):
        raise UsageError(f"not an AdmissionReview of {_API}")
    request = raw.mapping(envelope.get("request"))
    if not raw.text(request.get("uid")):
        raise UsageError("the AdmissionReview has no request with a uid")
    return Review(
        uid=raw.text(request.get("uid")),
        operation=raw.text(request.get("operation")),
        kind=raw.text(raw.mapping(request.get("kind")).get("kind")),
        namespace=raw.text(request.get("namespace")),
        object=raw.mapping(request.get("object")),
        old_object=raw.mapping(request.get("oldObject")),
    )


def render_answer(review: Review, verdict: Verdict) -> str:
    """Return the answer's JSON."""
    response: Json = {"uid": review.uid, "allowed": not verdict.refusal}
    if verdict.refusal:
        response["status"] = {"code": _UNPROCESSABLE, "reason": "Invalid", "message": verdict.refusal}
    if verdict.warnings:
        response["warnings"] = [_fit(warning) for warning in dict.fromkeys(verdict.warnings)][:_MOST_WARNINGS]
    if not verdict.refusal and verdict.changed is not None:
        operations = make_patch(review.object, verdict.changed)
        if operations:
            response["patchType"] = "JSONPatch"
            response["patch"] = base64.b64encode(json.dumps(operations).encode()).decode()
    return json.dumps({"apiVersion": _API, "kind": "AdmissionReview", "response": response})


def make_patch(old: Any, new: Any, path: str = "") -> list[Json]:
    """Return the operations that turn one JSON value into another (RFC 6902).

    Lists of equal length are compared item by item; others are replaced whole.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        operations = [{"op": "remove", "path": _join(path, key)} for key in old if key not in new]
        for key, value in new.items():
            if key in old:
                operations += make_patch(old[key], value, _join(path, key))
            else:
                operations.append({"op": "add", "path": _join(path, key), "value": value})
        return operations
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [step for index, (one, other) in pairs for step in make_patch(one, other, f"{path}/{index}")]
    if type(old) is type(new) and old == new:
        return []
    return [{"op": "replace", "path": path, "value": new}]


def _join(path: str, key: str) -> str:
    """Return the JSON pointer (RFC 6901) of a member."""
    return f"{path}/{key.replace('~', '~0').replace('/', '~1')}"


def _fit(warning: str) -> str:
    """Return a warning that survives as an HTTP header: one line without control characters, not too long."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in warning).split())
    return line if len(line) <= _LONGEST_WARNING else f"{line[: _LONGEST_WARNING - 3]}..."
