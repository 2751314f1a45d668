"""The objects of tests.fakes.kube and their history, changed by the rules of the real API server.

Optimistic concurrency, status as a subresource, generations, preconditions, finalizers, and the slow end of pods
that run on a node. What the real server checks of an object's contents is not checked.
"""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from crikpy.kube import resources
from crikpy.kube.resources import Resource
from tests.fakes.kube_rules import Json, RefusedError, json_patched, merged

WITH_STATUS = (
    "pods",
    "nodes",
    "checkpoints",
    "jobs",
    "daemonsets",
    "deployments",
    "replicasets",
    "statefulsets",
    "namespaces",
)
"""Kinds with a subresource `status`."""

CONDITIONAL_ONLY = ("checkpoints", "leases")
"""Kinds that cannot be replaced without a resource version."""

KINDS = tuple(value for value in vars(resources).values() if isinstance(value, Resource))

Key = tuple[str, str]
"""Namespace, empty for kinds without, and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One change, as watches tell it.

    Attributes:
        version: resource version.
        plural: the kind.
        before: the object, or None.
        after: the object, or None; an object that went has its last state in `last`.
        last: see `after`.
    """

    version: int
    plural: str
    before: Json | None
    after: Json | None
    last: Json


class Objects:
    """All objects.

    Attributes:
        version: the newest resource version.
        oldest: the oldest one from which a watch can begin.
        history: what happened since.
        slow_pods: pods that are bound to a node end only when they are removed by `remove`, as by a kubelet.
    """

    def __init__(self) -> None:
        self.version = 100
        self.oldest = self.version
        self.history: list[Happening] = []
        self.slow_pods = True
        self._kept: dict[str, dict[Key, Json]] = {}
        self.told: Callable[[], None] = lambda: None

    def all(self, resource: Resource) -> dict[Key, Json]:
        """Return the objects of a kind, not to be changed, in the order of the real server."""
        return dict(sorted(self._kept.get(resource.plural, {}).items()))

    def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        """Return an object, not to be changed."""
        try:
            return self._kept.get(resource.plural, {})[namespace if resource.namespaced else "", name]
        except KeyError:
            raise _refuse_missing(resource, name) from None

    def put(self, resource: Resource, body: Json) -> Json:
        """Make or overwrite an object, status included, as if by a hand from outside."""
        body = copy.deepcopy(body)
        meta = body.setdefault("metadata", {})
        before = self._kept.get(resource.plural, {}).get(_key(resource, meta))
        if before is not None:
            meta.setdefault("uid", before["metadata"]["uid"])
        return self._keep(resource, before, body)

    def create(self, resource: Resource, body: Json, namespace: str) -> Json:
        """Obey a POST."""
        body = copy.deepcopy(body)
        meta = body.setdefault("metadata", {})
        for name in ("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "generation"):
            meta.pop(name, None)
        if resource.namespaced and meta.setdefault("namespace", namespace) != namespace:
            message = "the namespace of the provided object does not match the namespace sent on the request"
            raise RefusedError(400, "BadRequest", message)
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = f"{meta['generateName']}{uuid.uuid4().hex[:5]}"
        if not meta.get("name"):
            message = (
                f"{resource.kind} is invalid: metadata.name: Required value: name or generateName is required"
            )
            raise RefusedError(422, "Invalid", message)
        if _key(resource, meta) in self._kept.get(resource.plural, {}):
            raise RefusedError(409, "AlreadyExists", f'{resource.plural} "{meta["name"]}" already exists')
        if resource.plural in WITH_STATUS and resource.plural != "nodes":
            body.pop("status", None)
        if resource.plural == "pods":
            body["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
        return self._keep(resource, None, body)

    def replace(self, resource: Resource, name: str, namespace: str, body: Json, *, status: bool) -> Json:
        """Obey a PUT."""
        before = self.get(resource, name, namespace)
        if not body.get("metadata", {}).get("resourceVersion") and resource.plural in CONDITIONAL_ONLY:
            message = (
                f"{name} is invalid: metadata.resourceVersion: Invalid value: must be specified for an update"
            )
            raise RefusedError(422, "Invalid", message)
        return self._change(resource, before, copy.deepcopy(body), status=status)

    def patch(self, resource: Resource, name: str, namespace: str, body: Any, media: str, *, status: bool) -> Json:
        """Obey a PATCH. Apply merges and creates, but does not remove what is no longer applied."""
        by_key = media.endswith(("strategic-merge-patch+json", "apply-patch+yaml"))
        if media.endswith("strategic-merge-patch+json") and resource is resources.CHECKPOINTS:
            raise RefusedError(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
        try:
            before = self.get(resource, name, namespace)
        except RefusedError:
            if not media.endswith("apply-patch+yaml") or status:
                raise
            return self.create(resource, body, namespace)
        after = json_patched(before, body) if isinstance(body, list) else merged(before, body, by_key=by_key)
        return self._change(resource, before, after, status=status)

    def delete(self, resource: Resource, name: str, namespace: str, options: Json) -> Json:
        """Obey a DELETE; returns the object as it is then."""
        before = self.get(resource, name, namespace)
        conditions = options.get("preconditions") or {}
        for field in ("uid", "resourceVersion"):
            if conditions.get(field) and conditions[field] != before["metadata"][field]:
                message = f"Precondition failed: {field} in precondition: {conditions[field]}"
                raise RefusedError(409, "Conflict", message)
        grace = options.get("gracePeriodSeconds")
        if not self._stays(resource, before, grace):
            return self.remove(resource, name, namespace)
        after = copy.deepcopy(before)
        meta = after["metadata"]
        spec = after.get("spec") or {}
        seconds = int(grace if grace is not None else spec.get("terminationGracePeriodSeconds") or 30)
        ending = _stamp(datetime.now(UTC) + timedelta(seconds=seconds if resource is resources.PODS else 0))
        if "deletionTimestamp" not in meta or meta.get("deletionGracePeriodSeconds", 0) > seconds:
            meta |= {"deletionTimestamp": ending, "deletionGracePeriodSeconds": seconds}
        return self._keep(resource, before, after)

    def remove(self, resource: Resource, name: str, namespace: str = "") -> Json:
        """Take an object away at once, as a kubelet does with a pod whose containers have ended."""
        before = self.get(resource, name, namespace)
        del self._kept[resource.plural][_key(resource, before["metadata"])]
        last = copy.deepcopy(before)
        self.version += 1
        last["metadata"]["resourceVersion"] = str(self.version)
        self._tell(resource, before, None, last)
        return last

    def compact(self) -> None:
        """Forget the history: watches from before now have expired, and so have half-read lists."""
        self.version += 1
        self.oldest = self.version
        self.history.clear()

    def _stays(self, resource: Resource, before: Json, grace: int | None) -> bool:
        if before["metadata"].get("finalizers"):
            return True
        bound = bool((before.get("spec") or {}).get("nodeName"))
        over = (before.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        return resource is resources.PODS and self.slow_pods and bound and not over and grace != 0

    def _change(self, resource: Resource, before: Json, after: Json, *, status: bool) -> Json:
        meta, old = after.setdefault("metadata", {}), before["metadata"]
        for field in ("resourceVersion", "uid"):
            if meta.get(field) and meta[field] != old[field]:
                message = (
                    f'Operation cannot be fulfilled on {resource.plural} "{old["name"]}": the object has been '
                    "modified; please apply your changes to the latest version and try again"
                )
                raise RefusedError(409, "Conflict", message)
        if status:
            after = {**copy.deepcopy(before), "status": after.get("status")}
        elif resource.plural in WITH_STATUS:
            after.pop("status", None)
            if "status" in before:
                after["status"] = copy.deepcopy(before["status"])
        for field in ("uid", "creationTimestamp", "name", "namespace", "deletionTimestamp", "generation"):
            if field in old:
                after["metadata"][field] = old[field]
        result = self._keep(resource, before, after)
        if old.get("deletionTimestamp") and old.get("finalizers") and not result["metadata"].get("finalizers"):
            return self.remove(resource, old["name"], old.get("namespace", ""))
        return result

    def _keep(self, resource: Resource, before: Json | None, body: Json) -> Json:
        after: Json = json.loads(json.dumps(body))
        after |= {"apiVersion": resource.api_version, "kind": resource.kind}
        meta = after["metadata"]
        if resource.namespaced:
            meta.setdefault("namespace", "default")
        else:
            meta.pop("namespace", None)
        meta.setdefault("uid", str(uuid.uuid4()))
        meta.setdefault("creationTimestamp", _stamp(datetime.now(UTC)))
        meta.setdefault("generation", 1)
        if before is not None:
            meta["resourceVersion"] = before["metadata"]["resourceVersion"]
            if after == before:
                return before
            if after.get("spec") != before.get("spec"):
                meta["generation"] = before["metadata"].get("generation", 0) + 1
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        self._kept.setdefault(resource.plural, {})[_key(resource, meta)] = after
        self._tell(resource, before, after, after)
        return after

    def _tell(self, resource: Resource, before: Json | None, after: Json | None, last: Json) -> None:
        happening = Happening(version=self.version, plural=resource.plural, before=before, after=after, last=last)
        self.history.append(happening)
        self.told()


def _key(resource: Resource, meta: Json) -> Key:
    return (meta.get("namespace") or "default") if resource.namespaced else "", meta["name"]


def _stamp(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _refuse_missing(resource: Resource, name: str) -> RefusedError:
    details = {"name": name, "kind": resource.plural}
    return RefusedError(404, "NotFound", f'{resource.plural} "{name}" not found', details=details)
