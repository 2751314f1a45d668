"""What can be asked of the Kubernetes API, as the rest of crikpy sees it: raw JSON in, raw JSON out.

The floors above name this protocol and not the client, so that whoever only asks can be tried with
another answerer. Nothing here sends anything.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

from crikpy.aio.clock import Deadline
from crikpy.kube.asking import Page
from crikpy.kube.changes import Selection
from crikpy.kube.raw import Json as Json  # noqa: PLC0414  # the agent knows it by this module
from crikpy.kube.resources import Resource

JsonPatch: TypeAlias = list[Json]
"""Operations of RFC 6902."""


class PatchKind(StrEnum):
    """How a patch is to be read; the values are the media types ("Kubernetes API concepts", patches)."""

    MERGE = "application/merge-patch+json"
    JSON = "application/json-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeList:
    """One complete list.

    Attributes:
        items: the objects; `apiVersion` and `kind` are filled in where the server leaves them out of lists.
        resource_version: of the whole list, from which a watch goes on without a gap.
    """

    items: tuple[Json, ...]
    resource_version: str


class KubeApi(Protocol):
    """What can be asked of an API server.

    Every call answers or raises before its deadline, and within the settings' `request_timeout_s` when none is
    given; a deadline that passes is a KubeUnavailableError. The server's own "too busy, come back in n seconds"
    (Retry-After) is obeyed as long as the deadline allows it; nothing else is tried again here. After a
    KubeUnavailableError of a call that writes, nobody knows whether it was carried out.

    Raises of every call: KubeUnavailableError (network, time, 429, 5xx), KubeForbiddenError (401, 403),
    KubeNotFoundError (404: object or kind), KubeConflictError (409), KubeInvalidError (400, 422 and everything
    else that is the caller's fault).
    """

    async def get(
        self, resource: Resource, name: str, *, namespace: str = "", deadline: Deadline | None = None
    ) -> Json:
        """Return one object."""
        ...

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        field_selector: str = "",
        label_selector: str = "",
        deadline: Deadline | None = None,
    ) -> KubeList:
        """Return all objects, of all namespaces when none is given; read in pages, consistent as a whole."""
        ...

    def list_pages(self, chosen: Selection, *, deadline: Deadline | None = None) -> AsyncGenerator[Page, None]:
        """Yield the same page by page, so that nobody need hold all of it; see Page for one that begins anew."""
        ...

    async def create(
        self,
        resource: Resource,
        body: Json,
        *,
        namespace: str = "",
        name: str = "",
        subresource: str = "",
        deadline: Deadline | None = None,
    ) -> Json:
        """Make an object, or post to a subresource of the object `name`, and return what the server made of it.

        Args:
            resource: the kind; `apiVersion` and `kind` are filled in where the body lacks them.
            body: the object.
            namespace: where it is made; the body's own namespace when empty.
            name: of the object whose subresource is meant.
            subresource: such as `token`.
            deadline: see the class.

        Raises:
            KubeConflictError: there is one of that name already.
        """
        ...

    async def replace(
        self,
        resource: Resource,
        name: str,
        body: Json,
        *,
        namespace: str = "",
        subresource: str = "",
        deadline: Deadline | None = None,
    ) -> Json:
        """Write an object as it is in the body and return it.

        Raises:
            KubeConflictError: it was changed since the body's `metadata.resourceVersion`.
        """
        ...

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: Json | JsonPatch,
        *,
        namespace: str = "",
        subresource: str = "",
        kind: PatchKind = PatchKind.MERGE,
        field_manager: str = "",
        deadline: Deadline | None = None,
    ) -> Json:
        """Change parts of an object and return the whole.

        A `metadata.resourceVersion` in the body makes it conditional. APPLY needs a field manager and takes over
        fields that others manage.

        Raises:
            KubeConflictError: it was changed since the body's resource version.
        """
        ...

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str = "",
        uid: str = "",
        grace_period_s: int | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        """Ask for the end of an object; it may go on for a while (finalizers, grace period).

        Args:
            resource: the kind.
            name: its name.
            namespace: its namespace.
            uid: only if it is still this very object.
            grace_period_s: None leaves it to the object.
            deadline: see the class.

        Raises:
            KubeNotFoundError: it is gone already.
            KubeConflictError: another object bears its name by now.
        """
        ...

    async def evict(
        self,
        namespace: str,
        name: str,
        *,
        uid: str,
        grace_period_s: int | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        """Evict a pod (policy/v1, "API-initiated eviction"): as delete, but budgets of disruptions are kept.

        Raises:
            EvictionBlockedError: a budget does not allow it now.
            KubeNotFoundError: the pod is gone already.
            KubeConflictError: another pod bears its name by now.
        """
        ...

    def watch(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        field_selector: str = "",
        label_selector: str = "",
        resource_version: str,
    ) -> AsyncGenerator[Json, None]:
        """Yield the events of one watch as the server sends them: `{"type": …, "object": …}`.

        The first is of type OPEN (crikpy.kube.asking) and holds no object; BOOKMARK events carry only a resource
        version. Ends when the server closes the watch, as it does every few minutes. Use it within
        contextlib.aclosing. Most want crikpy.kube.watching instead.

        Raises:
            KubeExpiredError: the server no longer knows the resource version; list again.
            KubeUnavailableError: refused, broken, or silent for longer than the settings' `watch_silence_s`.
        """
        ...
