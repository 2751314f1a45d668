"""Who somebody is, and what he may do, as the API server says: for what we serve to people ourselves.

Decides nothing and remembers nothing; a bearer token is passed on to the API server and never kept or logged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from crikpy.aio.clock import Deadline
from crikpy.kube import raw
from crikpy.kube.api import KubeApi
from crikpy.kube.raw import Json
from crikpy.kube.resources import ACCESS_REVIEWS, TOKEN_REVIEWS, Resource

_ANONYMOUS: Final = ("", "system:anonymous")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Whom a token stands for.

    Attributes:
        name: the user's name.
        uid: the user's UID, or empty.
        groups: of the user.
        extra: what else the API server's authenticator says, which its authorizers may ask for.
    """

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


async def identify(api: KubeApi, token: str, deadline: Deadline) -> Person | None:
    """Return whom a bearer token stands for (TokenReview); None where it stands for nobody.

    Raises:
        KubeError: the API server did not answer, or we may not ask.
    """
    review = await api.create(TOKEN_REVIEWS, {"spec": {"token": token}}, deadline=deadline)
    status = raw.mapping(review.get("status"))
    user = raw.mapping(status.get("user"))
    name = raw.text(user.get("username"))
    if status.get("authenticated") is not True or name in _ANONYMOUS:
        return None
    return Person(
        name=name,
        uid=raw.text(user.get("uid")),
        groups=raw.texts(user.get("groups")),
        extra=tuple((key, raw.texts(values)) for key, values in sorted(raw.mapping(user.get("extra")).items())),
    )


async def may_list(api: KubeApi, person: Person, resource: Resource, namespace: str, deadline: Deadline) -> bool:
    """Say whether somebody may list a kind of objects in a namespace, in all when that is empty.

    Raises:
        KubeError: the API server did not answer, or we may not ask.
    """
    attributes = {"verb": "list", "group": resource.group, "resource": resource.plural, "namespace": namespace}
    spec: Json = {
        "user": person.name,
        "uid": person.uid,
        "groups": list(person.groups),
        "extra": {key: list(values) for key, values in person.extra},
        "resourceAttributes": attributes,
    }
    review = await api.create(ACCESS_REVIEWS, {"spec": spec}, deadline=deadline)
    return raw.mapping(review.get("status")).get("allowed") is True
