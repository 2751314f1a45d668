"""What the API server's refusals mean, as errors of crikpy.

A status decides, never a text; the one thing read from the Status object besides its message is whether a 429 of
an eviction comes from a budget or from a server that is too busy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from crikpy.errors import (
    EvictionBlockedError,
    KubeConflictError,
    KubeError,
    KubeExpiredError,
    KubeForbiddenError,
    KubeInvalidError,
    KubeNotFoundError,
    KubeUnavailableError,
)

UNAUTHORIZED: Final = 401
_LONGEST_MESSAGE: Final = 1000
_SHORTEST_PAUSE_S: Final = 0.2

_KINDS: Final[Mapping[int, type[KubeError]]] = {
    UNAUTHORIZED: KubeForbiddenError,
    403: KubeForbiddenError,
    404: KubeNotFoundError,
    409: KubeConflictError,
    410: KubeExpiredError,
    429: KubeUnavailableError,
}
_REMEDIES: Final[Mapping[int, str]] = {
    UNAUTHORIZED: "the server does not take our credentials; see that the token or certificate is of this cluster",
}


def fault_of(doing: str, status: int, body: bytes, *, evicting: bool = False) -> KubeError:
    """Return the error that an answer other than 2xx means.

    Args:
        doing: the request, for the message.
        status: of HTTP.
        body: a Status object as JSON, or whatever something between us and the server wrote.
        evicting: the request was for an eviction. A budget's 429 holds a Status object, that of a server that is
            too busy does not ("API-initiated eviction"; apiserver's priority and fairness filter).
    """
    refusal = _decode(body)
    if evicting and status == 429 and refusal is not None:
        return EvictionBlockedError(f"{doing}: {_message(refusal, status)}")
    return _fault(doing, status, _message(refusal, status))


def fault_of_status(doing: str, refusal: Mapping[str, Any]) -> KubeError:
    """Return the error that a Status object in an ERROR event of a watch means."""
    code = refusal.get("code")
    status = code if isinstance(code, int) else 500
    return _fault(doing, status, _message(refusal, status))


def retry_after_s(status: int, value: str) -> float | None:
    """Return how many seconds the server wants us to stay away before the same request, or None.

    Only 429 and 5xx say so, and the request was not carried out then ("Kubernetes API concepts").
    """
    if status != 429 and status < 500:
        return None
    return max(_SHORTEST_PAUSE_S, float(value)) if value.isdecimal() else None


def _fault(doing: str, status: int, message: str) -> KubeError:
    kind = _KINDS.get(status)
    if kind is None:
        kind = KubeInvalidError if 400 <= status < 500 else KubeUnavailableError if status >= 500 else KubeError
    return kind(f"{doing}: {message}", remedy=_REMEDIES.get(status, ""))


def _decode(body: bytes) -> Mapping[str, Any] | None:
    try:
        refusal = json.loads(body)
    except ValueError:
        return None
    return refusal if isinstance(refusal, dict) and refusal.get("kind") == "Status" else None


def _message(refusal: Mapping[str, Any] | None, status: int) -> str:
    text = str((refusal or {}).get("message") or "")
    return f"{status} {text[:_LONGEST_MESSAGE]}".rstrip()
