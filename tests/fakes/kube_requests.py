"""Requests to tests.fakes.kube: their parsing, their answers, and trouble that meets them."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from crikpy.kube.resources import CHECKPOINTS, PODS, Resource
from tests.fakes.kube_objects import Happening, Objects
from tests.fakes.kube_rules import Json, RefusedError, field_test, label_test, merged

_VERBS = {"GET": "get", "POST": "create", "PUT": "replace", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request.

    Attributes:
        verb: get, list, watch, create, replace, patch or delete.
        resource: the kind.
        namespace: from the path, empty for all.
        name: from the path, empty for the collection.
        subresource: from the path.
        query: the query's parameters.
        body: the JSON that was sent, or None.
        media: its media type.
        agent: the header User-Agent.
    """

    verb: str
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None
    media: str = ""
    agent: str = ""

    @property
    def plural(self) -> str:
        """The kind's name in paths."""
        return self.resource.plural

    def selection(self) -> Callable[[Json], bool]:
        """Return what decides whether a list or watch is about an object; selectors may be refused."""
        fields = field_test(self.plural, self.query.get("fieldSelector", ""))
        labels = label_test(self.query.get("labelSelector", ""))
        place = self.namespace
        return lambda target: (
            (not place or target["metadata"].get("namespace") == place) and fields(target) and labels(target)
        )


@dataclass(slots=True, kw_only=True)
class Trouble:
    """What is to go wrong; see FakeKube.trouble."""

    kind: str
    verb: str
    plural: str
    times: int
    after: int
    retry_after: int | None

    def meets(self, request: Request) -> bool:
        """Whether it strikes this request; counts down when it does."""
        if self.times == 0 or self.verb not in ("", request.verb) or self.plural not in ("", request.plural):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        return True

    def response(self) -> web.Response:
        """Answer with its status; 429 has no Status object, as with the real server's fair queues."""
        code = int(self.kind)
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if code == 429:
            return web.Response(status=code, headers=headers, text="Too many requests, please try again later.")
        body = RefusedError(code, "InternalError", "out of order").status()
        return web.json_response(body, status=code, headers=headers)


async def parse(http: web.BaseRequest, kinds: Sequence[Resource]) -> Request:
    """Read a request; 404 for kinds that are not among the known."""
    parts = http.path.strip("/").split("/")
    head, group = (2, "") if parts[0] == "api" else (3, parts[1] if len(parts) > 1 else "")
    rest = parts[head:]
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    api_version = "/".join(parts[1:head])
    known = next(
        (kind for kind in kinds if rest and (kind.api_version, kind.plural) == (api_version, rest[0])), None
    )
    if known is None or known.group != group or parts[0] not in ("api", "apis"):
        raise RefusedError(404, "NotFound", "the server could not find the requested resource")
    name, subresource = [*rest[1:], "", ""][:2]
    text = await http.read()
    query = dict(http.query)
    verb = _VERBS[http.method]
    if verb == "get" and not name:
        verb = "watch" if query.get("watch") in ("true", "1") else "list"
    if verb != "get" and verb not in ("list", "watch") and known.namespaced and not namespace:
        raise RefusedError(405, "MethodNotAllowed", "the server does not allow this method on the resource")
    return Request(
        verb=verb,
        resource=known,
        namespace=namespace,
        name=name,
        subresource=subresource,
        query=query,
        body=json.loads(text) if text else None,
        media=http.content_type,
        agent=http.headers.get("User-Agent", ""),
    )


def answer(request: Request, objects: Objects) -> tuple[int, Json]:
    """Carry out everything but a watch; returns status and body."""
    kind, name, namespace = request.resource, request.name, request.namespace
    if request.subresource not in ("", "status", "eviction"):
        raise RefusedError(404, "NotFound", "the server could not find the requested resource")
    status = request.subresource == "status"
    if request.subresource == "eviction":
        return 201, _evict(request, objects)
    if request.verb == "get":
        return 200, objects.get(kind, name, namespace)
    if request.verb == "list":
        return 200, _list(request, objects)
    if request.verb == "create":
        return 201, objects.create(kind, request.body, namespace)
    if request.verb == "replace":
        return 200, objects.replace(kind, name, namespace, request.body, status=status)
    if request.verb == "patch":
        if request.media.endswith("apply-patch+yaml") and not request.query.get("fieldManager"):
            raise RefusedError(400, "BadRequest", "PatchOptions is invalid: fieldManager: Required value")
        return 200, objects.patch(kind, name, namespace, request.body, request.media, status=status)
    return 200, objects.delete(kind, name, namespace, request.body or {})


def _evict(request: Request, objects: Objects) -> Json:
    """End a pod with the condition DisruptionTarget, as the real server writes it."""
    pod = objects.get(PODS, request.name, request.namespace)
    options = (request.body or {}).get("deleteOptions") or {}
    wanted = (options.get("preconditions") or {}).get("uid")
    if wanted and wanted != pod["metadata"]["uid"]:
        message = (
            f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {pod['metadata']['uid']}"
        )
        raise RefusedError(409, "Conflict", message)
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    objects.put(PODS, merged(pod, {"status": {"conditions": [condition]}}, by_key=True))
    objects.delete(PODS, request.name, request.namespace, options)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _list(request: Request, objects: Objects) -> Json:
    """Return a page. A token names the first page's version and where to go on; changes since are undone."""
    version, start = objects.version, ("", "")
    if token := request.query.get("continue"):
        number, *place = json.loads(base64.b64decode(token))
        version, start = int(number), (place[0], place[1])
        if version < objects.oldest:
            message = "The provided continue parameter is too old to display a consistent list result."
            raise RefusedError(410, "Expired", message)
    kept = objects.all(request.resource)
    for happening in reversed(objects.history):
        if happening.plural == request.plural and happening.version > version:
            _undo(kept, happening)
    selects = request.selection()
    chosen = [(key, item) for key, item in sorted(kept.items()) if key > start and selects(item)]
    limit = int(request.query.get("limit") or 0) or len(chosen)
    page, left = chosen[:limit], len(chosen) - limit
    meta: Json = {"resourceVersion": str(version)}
    if left > 0:
        meta["continue"] = base64.b64encode(json.dumps([version, *page[-1][0]]).encode()).decode()
        meta["remainingItemCount"] = left
    return {
        "kind": f"{request.resource.kind}List",
        "apiVersion": request.resource.api_version,
        "metadata": meta,
        "items": [_listed(request.resource, item) for _, item in page],
    }


def _undo(kept: dict[tuple[str, str], Json], happening: Happening) -> None:
    meta = happening.last["metadata"]
    key = (meta.get("namespace", ""), meta["name"])
    if happening.before is None:
        kept.pop(key, None)
    else:
        kept[key] = happening.before


def _listed(resource: Resource, item: Json) -> Json:
    """Return an object as lists show it: kinds of Kubernetes' own come without their kind, others with it."""
    listed = copy.copy(item)
    if resource is not CHECKPOINTS:
        del listed["kind"], listed["apiVersion"]
    return listed
