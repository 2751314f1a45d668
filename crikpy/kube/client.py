"""The Kubernetes API as the rest of crikpy sees it: raw JSON objects in, raw JSON objects out, own errors only.

Objects stay the dictionaries that the server sent, nulls and fields unknown to us included, so that what is
written back loses nothing. Nothing here remembers an object; crikpy.kube.watching does that.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Self

from crikpy.aio.clock import Deadline
from crikpy.kube.api import JsonPatch, KubeList, PatchKind
from crikpy.kube.asking import Asker, Page
from crikpy.kube.changes import Selection
from crikpy.kube.connecting import Connection, connect
from crikpy.kube.raw import Json
from crikpy.kube.resources import PODS, Resource
from crikpy.settings import KubeSettings


class KubeClient:
    """The API server of a kubeconfig or of the cluster that this process runs in.

        async with await KubeClient.connect(settings.kube) as api: ...

    Its methods are those of KubeApi.

    Attributes:
        host: the server's URL, for logs.
        default_namespace: of the kubeconfig's context or of the pod's service account.
    """

    def __init__(self, connection: Connection, settings: KubeSettings) -> None:
        self._transport = connection.transport
        self._asker = Asker(connection.transport, settings)
        self.host = connection.transport.host
        self.default_namespace = connection.default_namespace

    @classmethod
    async def connect(cls, settings: KubeSettings, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the configuration and make ready; sends nothing yet.

        Raises:
            SettingsError: there is no configuration, or it cannot be used; with what can be done.
        """
        return cls(await connect(settings, environ), settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.close()

    async def get(
        self, resource: Resource, name: str, *, namespace: str = "", deadline: Deadline | None = None
    ) -> Json:
        """See KubeApi."""
        return await self._asker.ask("GET", resource.path(namespace=namespace, name=name), deadline=deadline)

    async def read(self, path: str, *, deadline: Deadline | None = None) -> bytes:
        """Return what lies at a path that is no object's: `/version`, or something behind a node's or pod's proxy.

        Args:
            path: made of Resource.path where names of objects are in it.
            deadline: see KubeApi.

        Raises:
            KubeError: one of its kinds, as KubeApi describes them.
        """
        return await self._asker.ask_bytes("GET", path, deadline=deadline)

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        field_selector: str = "",
        label_selector: str = "",
        deadline: Deadline | None = None,
    ) -> KubeList:
        """See KubeApi."""
        items: list[Json] = []
        version = ""
        chosen = Selection(
            resource=resource, namespace=namespace, field_selector=field_selector, label_selector=label_selector
        )
        async for page in self.list_pages(chosen, deadline=deadline):
            items = [*([] if page.anew else items), *page.items]
            version = page.resource_version
        return KubeList(items=tuple(items), resource_version=version)

    async def list_pages(
        self, chosen: Selection, *, deadline: Deadline | None = None
    ) -> AsyncGenerator[Page, None]:
        """See KubeApi."""
        kind = {"apiVersion": chosen.resource.api_version, "kind": chosen.resource.kind}
        path = chosen.resource.path(namespace=chosen.namespace)
        query = _selectors(chosen.field_selector, chosen.label_selector)
        pages = self._asker.ask_pages(path, query, deadline)
        async with aclosing(pages):
            async for page in pages:
                yield replace(page, items=tuple(kind | item for item in page.items))

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
        """See KubeApi."""
        place = namespace or body.get("metadata", {}).get("namespace", "")
        path = resource.path(namespace=place, name=name, subresource=subresource)
        if not subresource:
            body = {"apiVersion": resource.api_version, "kind": resource.kind} | body
        return await self._asker.ask("POST", path, body=body, deadline=deadline)

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
        """See KubeApi."""
        place = namespace or body.get("metadata", {}).get("namespace", "")
        path = resource.path(namespace=place, name=name, subresource=subresource)
        body = {"apiVersion": resource.api_version, "kind": resource.kind} | body
        return await self._asker.ask("PUT", path, body=body, deadline=deadline)

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
        """See KubeApi."""
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        query = {"fieldManager": field_manager} if field_manager else {}
        if kind is PatchKind.APPLY:
            query["force"] = "true"
        return await self._asker.ask("PATCH", path, query=query, body=body, media=kind.value, deadline=deadline)

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
        """See KubeApi."""
        options = _delete_options(uid, grace_period_s) | {"propagationPolicy": "Background"}
        path = resource.path(namespace=namespace, name=name)
        await self._asker.ask("DELETE", path, body=options, deadline=deadline)

    async def evict(
        self,
        namespace: str,
        name: str,
        *,
        uid: str,
        grace_period_s: int | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        """See KubeApi."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"namespace": namespace, "name": name},
            "deleteOptions": _delete_options(uid, grace_period_s),
        }
        path = PODS.path(namespace=namespace, name=name, subresource="eviction")
        await self._asker.ask("POST", path, body=body, deadline=deadline, evicting=True)

    async def watch(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        field_selector: str = "",
        label_selector: str = "",
        resource_version: str,
    ) -> AsyncGenerator[Json, None]:
        """See KubeApi."""
        query = _selectors(field_selector, label_selector) | {"resourceVersion": resource_version}
        async with aclosing(self._asker.follow(resource.path(namespace=namespace), query)) as events:
            async for event in events:
                yield event


def _selectors(field_selector: str, label_selector: str) -> dict[str, str]:
    selectors = {"fieldSelector": field_selector, "labelSelector": label_selector}
    return {name: value for name, value in selectors.items() if value}


def _delete_options(uid: str, grace_period_s: int | None) -> Json:
    options: Json = {"apiVersion": "v1", "kind": "DeleteOptions"}
    if uid:
        options["preconditions"] = {"uid": uid}
    if grace_period_s is not None:
        options["gracePeriodSeconds"] = grace_period_s
    return options
