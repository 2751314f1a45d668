"""Errors of the Kubernetes API, which the tree in crikpy.errors shows in their place."""

from __future__ import annotations

from crikpy.errors.base import CrikpyError

__all__ = [
    "EvictionBlockedError",
    "KubeConflictError",
    "KubeError",
    "KubeExpiredError",
    "KubeForbiddenError",
    "KubeInvalidError",
    "KubeNotFoundError",
    "KubeUnavailableError",
]


class KubeError(CrikpyError):
    """The Kubernetes API answered something that cannot be worked with."""

    exit_code = 80
    reason = "KubernetesFailed"


class KubeUnavailableError(KubeError):
    """The API server could not be reached, was too busy or broke off."""

    exit_code = 81
    reason = "KubernetesUnavailable"
    retryable = True


class KubeForbiddenError(KubeError):
    """The API server refused our credentials or what they may do."""

    exit_code = 82
    reason = "KubernetesForbidden"


class KubeNotFoundError(KubeError):
    """There is no such object, or the cluster does not know its kind."""

    exit_code = 83
    reason = "KubernetesNotFound"


class KubeConflictError(KubeError):
    """The object exists already, or was changed since it was read."""

    exit_code = 84
    reason = "KubernetesConflict"


class KubeInvalidError(KubeError):
    """The API server does not take the object as it is."""

    exit_code = 85
    reason = "KubernetesInvalid"


class KubeExpiredError(KubeError):
    """The resource version is too old to watch from; the list must be read again."""

    exit_code = 86
    reason = "KubernetesExpired"


class EvictionBlockedError(KubeError):
    """A disruption budget does not allow the eviction now."""

    exit_code = 87
    reason = "EvictionBlocked"
    retryable = True
