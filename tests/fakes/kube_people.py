"""Who bears which token, and what he may list: TokenReview and SubjectAccessReview of tests.fakes.kube."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.fakes.kube_requests import Request
from tests.fakes.kube_rules import Json, RefusedError

REVIEWS = ("tokenreviews", "subjectaccessreviews")


@dataclass(frozen=True, kw_only=True)
class Somebody:
    """A user.

    Attributes:
        name: his name.
        groups: of his.
        namespaces: in which he may list; an empty one stands for all.
        kinds: plurals of what he may list there.
    """

    name: str
    groups: tuple[str, ...] = ("system:authenticated",)
    namespaces: tuple[str, ...] = ("",)
    kinds: tuple[str, ...] = ("checkpoints", "pods", "events")


def review(request: Request, people: Mapping[str, Somebody]) -> Json:
    """Answer a review; people are known by their tokens."""
    if request.verb != "create":
        raise RefusedError(405, "MethodNotAllowed", "the server does not allow this method on the resource")
    spec = request.body["spec"]
    if request.plural == "tokenreviews":
        found = people.get(spec["token"])
        if found is None:
            status: Json = {"user": {}, "error": "invalid bearer token"}
        else:
            user = {"username": found.name, "uid": "u", "groups": list(found.groups), "extra": {"scopes": ["a"]}}
            status = {"authenticated": True, "user": user, "audiences": ["https://kubernetes.default.svc"]}
    else:
        asked = spec["resourceAttributes"]
        status = {"allowed": any(_may(one, spec, asked) for one in people.values())}
    return {
        "kind": request.resource.kind,
        "apiVersion": request.resource.api_version,
        "metadata": {},
        "status": status,
    }


def _may(one: Somebody, spec: Json, asked: Json) -> bool:
    is_he = (one.name, list(one.groups)) == (spec["user"], spec["groups"]) and spec["extra"] == {"scopes": ["a"]}
    reaches = "" in one.namespaces or asked["namespace"] in one.namespaces
    group = "crikpy.io" if asked["resource"] == "checkpoints" else ""
    known = (asked["verb"], asked["group"]) == ("list", group) and asked["resource"] in one.kinds
    return is_he and reaches and known
