"""Changes of objects, and the difference between what was told and what is: pure, without any server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from crikpy.errors import KubeError
from crikpy.kube.client import Json
from crikpy.kube.resources import Resource


class Change(StrEnum):
    """What happened to an object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One change of one object.

    Attributes:
        change: what happened. A new object of an old name is a DELETED of the old and an ADDED of the new.
        object: raw JSON; of a deleted object the last that is known.
    """

    change: Change
    object: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """A complete list has been taken in: every change before it was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """The API server was lost or answers again; told once per change.

    Attributes:
        fault: why nothing can be heard, or None when all is well.
    """

    fault: KubeError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which objects.

    Attributes:
        resource: their kind.
        namespace: empty means all.
        field_selector: such as `spec.nodeName=n1`; the server filters.
        label_selector: likewise.
    """

    resource: Resource
    namespace: str = ""
    field_selector: str = ""
    label_selector: str = ""


def key_of(target: Json) -> str:
    """Return `namespace/name` of an object, or `name` where it lies in no namespace."""
    meta = target["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])


class Known:
    """What was told so far, and what is to be told of something new."""

    def __init__(self) -> None:
        self._objects: dict[str, Json] = {}

    def take_list(self, targets: Iterable[Json]) -> Iterator[Seen]:
        """Yield how a complete list differs from what was told; deletions first."""
        listed = {key_of(target): target for target in targets}
        for key in [key for key in self._objects if key not in listed]:
            yield Seen(change=Change.DELETED, object=self._objects.pop(key))
        for target in listed.values():
            yield from self.take(target)

    def take(self, target: Json) -> Iterator[Seen]:
        """Yield what an object that exists means."""
        key = key_of(target)
        before = self._objects.get(key)
        if before is not None and _meta(before, "uid") != _meta(target, "uid"):
            yield Seen(change=Change.DELETED, object=self._objects.pop(key))
            before = None
        if before is None or _meta(before, "resourceVersion") != _meta(target, "resourceVersion"):
            self._objects[key] = target
            yield Seen(change=Change.ADDED if before is None else Change.MODIFIED, object=target)

    def take_deleted(self, target: Json) -> Iterator[Seen]:
        """Yield what a deletion means; one of an earlier bearer of the name means nothing."""
        before = self._objects.get(key_of(target))
        if before is not None and _meta(before, "uid") == _meta(target, "uid"):
            del self._objects[key_of(target)]
            yield Seen(change=Change.DELETED, object=target)


def _meta(target: Json, name: str) -> object:
    return target["metadata"].get(name)
