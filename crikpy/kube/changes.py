"""Changes of objects, and the difference between what was told and what is: pure, without any server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from crikpy.errors import KubeError
from crikpy.kube.raw import Json
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
        object: raw JSON; of a deleted object its last state where `whole`.
        whole: False of an object that went while nobody watched: only its name, UID and version are known then.
    """

    change: Change
    object: Json
    whole: bool = True


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
    """What was told so far, and what is to be told of something new.

    Of each object no more is kept than tells it from another: all pods of a large cluster are a gigabyte of JSON.
    """

    def __init__(self) -> None:
        self._told: dict[str, _Version] = {}
        self._listed: set[str] = set()

    def begin_list(self) -> None:
        """Await a complete list, in any number of parts."""
        self._listed = set()

    def take_listed(self, targets: Iterable[Json]) -> Iterator[Seen]:
        """Yield how a part of it differs from what was told."""
        for target in targets:
            self._listed.add(key_of(target))
            yield from self.take(target)

    def end_list(self) -> Iterator[Seen]:
        """Yield what was told before and is not in it."""
        for key in [key for key in self._told if key not in self._listed]:
            yield self._lose(key)
        self._listed = set()

    def take(self, target: Json) -> Iterator[Seen]:
        """Yield what an object that exists means."""
        key, version = key_of(target), _Version.of(target)
        before = self._told.get(key)
        if before is not None and before.uid != version.uid:
            yield self._lose(key)
            before = None
        if before != version:
            self._told[key] = version
            yield Seen(change=Change.ADDED if before is None else Change.MODIFIED, object=target)

    def take_deleted(self, target: Json) -> Iterator[Seen]:
        """Yield what a deletion means; one of an earlier bearer of the name means nothing."""
        before = self._told.get(key_of(target))
        if before is not None and before.uid == _Version.of(target).uid:
            del self._told[key_of(target)]
            yield Seen(change=Change.DELETED, object=target)

    def _lose(self, key: str) -> Seen:
        """Forget an object that went unseen."""
        namespace, _, name = key.rpartition("/")
        metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
        version = self._told.pop(key)
        metadata |= {"uid": version.uid, "resourceVersion": version.resource_version}
        return Seen(change=Change.DELETED, object={"metadata": metadata}, whole=False)


class _Version(NamedTuple):
    """One state of one object."""

    uid: str
    resource_version: str

    @classmethod
    def of(cls, target: Json) -> _Version:
        meta = target["metadata"]
        return cls(str(meta.get("uid", "")), str(meta.get("resourceVersion", "")))
