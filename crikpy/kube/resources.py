"""The kinds of objects that crikpy reads and writes, and where the API server keeps them.

A table, nothing more: no kind is discovered, so that a controller that starts while the API server is busy asks
nothing that it does not need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from crikpy import names
from crikpy.errors import KubeInvalidError

CORE: Final = ""
"""The group of the oldest kinds, which has no name and lies below /api instead of /apis."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object.

    Attributes:
        group: API group, empty for the core group.
        version: of the group.
        plural: name in paths, such as `pods`.
        kind: name in objects, such as `Pod`.
        namespaced: whether its objects lie in namespaces.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """What objects of this kind bear as `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, *, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the path on the API server of an object, or of all of them ("Kubernetes API concepts").

        Args:
            namespace: empty means all namespaces, for reading only; ignored for kinds without namespaces.
            name: empty means the whole collection.
            subresource: such as `status`.

        Raises:
            KubeInvalidError: a name that would lead elsewhere.
        """
        parts = [f"/apis/{self.group}" if self.group else "/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", _quote(namespace)]
        parts.append(self.plural)
        if name:
            parts.append(_quote(name))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)

    def __str__(self) -> str:
        return self.plural


def _quote(name: str) -> str:
    if name in (".", ".."):
        raise KubeInvalidError(f"{name!r} is no name of an object")
    return quote(name, safe="")


PODS: Final = Resource(CORE, "v1", "pods", "Pod")
NODES: Final = Resource(CORE, "v1", "nodes", "Node", namespaced=False)
EVENTS: Final = Resource(CORE, "v1", "events", "Event")
SECRETS: Final = Resource(CORE, "v1", "secrets", "Secret")
CONFIG_MAPS: Final = Resource(CORE, "v1", "configmaps", "ConfigMap")
NAMESPACES: Final = Resource(CORE, "v1", "namespaces", "Namespace", namespaced=False)
SERVICE_ACCOUNTS: Final = Resource(CORE, "v1", "serviceaccounts", "ServiceAccount")

DEPLOYMENTS: Final = Resource("apps", "v1", "deployments", "Deployment")
DAEMON_SETS: Final = Resource("apps", "v1", "daemonsets", "DaemonSet")
REPLICA_SETS: Final = Resource("apps", "v1", "replicasets", "ReplicaSet")
STATEFUL_SETS: Final = Resource("apps", "v1", "statefulsets", "StatefulSet")
JOBS: Final = Resource("batch", "v1", "jobs", "Job")
CRON_JOBS: Final = Resource("batch", "v1", "cronjobs", "CronJob")
ENDPOINT_SLICES: Final = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
DEFINITIONS: Final = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")

MUTATING_WEBHOOKS: Final = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration",
    namespaced=False,
)
VALIDATING_WEBHOOKS: Final = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)

TOKEN_REVIEWS: Final = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
ACCESS_REVIEWS: Final = Resource(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)

CHECKPOINTS: Final = Resource(names.DOMAIN, names.API_VERSION.partition("/")[2], "checkpoints", "Checkpoint")
