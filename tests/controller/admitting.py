"""Pods, reviews and patches for the tests of the webhook."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

from hypothesis import strategies as st

from crikpy import names
from crikpy.settings import ControllerSettings

Json = dict[str, Any]

SETTINGS = ControllerSettings(launcher_image="registry.example/launcher:1")


def pod_of(*containers: Json, annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    """Return a pod that has opted in, as the API server sends it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "annotations": {names.OPT_IN: "true"} | (annotations or {})},
        "spec": {"containers": list(containers) or [container()], "terminationGracePeriodSeconds": 30} | spec,
    }


def container(name: str = "main", *command: str, **fields: Any) -> Json:
    """Return a container with a command; `command=None` leaves it out."""
    return {"name": name, "image": "train:1", "command": list(command) or ["python", "train.py"]} | fields


def imaged(name: str = "main", image: str = "train:1", **fields: Any) -> Json:
    """Return a container whose image says what it runs."""
    return {"name": name, "image": image} | fields


def review_of(obj: Json, *, kind: str = "Pod", operation: str = "CREATE", old: Json | None = None) -> bytes:
    """Return the body of an AdmissionReview."""
    request = {
        "uid": "5a3b",
        "kind": {"group": "", "version": "v1", "kind": kind},
        "namespace": "team",
        "operation": operation,
        "object": obj,
        "oldObject": old,
    }
    return json.dumps(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    ).encode()


def patched(obj: Json, answer: Json) -> Any:
    """Return an object after the patch of an answer."""
    patch = answer["response"].get("patch")
    return apply_patch(obj, json.loads(base64.b64decode(patch)) if patch else [])


def apply_patch(document: Any, operations: list[Json]) -> Any:
    """Apply add, replace and remove of RFC 6902 as strictly as it demands."""
    holder = {"root": copy.deepcopy(document)}
    for operation in operations:
        assert operation["path"] == "" or operation["path"].startswith("/")
        keys = [key.replace("~1", "/").replace("~0", "~") for key in operation["path"].split("/")[1:]]
        target: Any = holder
        for key in ["root", *keys][:-1]:
            target = target[int(key)] if isinstance(target, list) else target[key]
        last = ["root", *keys][-1]
        _apply_one(target, int(last) if isinstance(target, list) and last != "-" else last, operation)
    return holder["root"]


def _apply_one(target: Any, key: Any, operation: Json) -> None:
    match operation["op"], target:
        case "add", list():
            assert key == "-" or key <= len(target)
            target.insert(len(target) if key == "-" else key, operation["value"])
        case "add", dict():
            target[key] = operation["value"]
        case "replace", _:
            target[key]
            target[key] = operation["value"]
        case "remove", _:
            del target[key]
        case _:
            raise AssertionError(f"no such operation: {operation}")


NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
WORDS = st.lists(st.text(max_size=8), max_size=3)
MOUNTS = st.lists(
    st.fixed_dictionaries({"name": NAMES, "mountPath": st.sampled_from(["/a", "/b", "/.crikpy", "/.crikpy/x"])}),
    max_size=2,
)
RESOURCES = st.sampled_from(
    [
        {},
        {"requests": {"cpu": "1"}},
        {
            "limits": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"},
            "requests": {"cpu": "1", "memory": "1Gi"},
        },
    ]
)
CONTAINERS = st.fixed_dictionaries(
    {"name": NAMES, "image": st.just("train:1")},
    optional={
        "command": WORDS | st.none(),
        "args": WORDS,
        "volumeMounts": MOUNTS | st.none(),
        "resources": RESOURCES,
        "tty": st.booleans(),
        "stdin": st.booleans(),
        "env": st.just([{"name": "A~/B", "value": "x"}]),
        "livenessProbe": st.just({"httpGet": {"port": 80}}),
    },
)


@st.composite
def pods(draw: st.DrawFn) -> Json:
    """Draw a pod that has opted in."""
    containers = draw(st.lists(CONTAINERS, min_size=1, max_size=3, unique_by=lambda one: str(one["name"])))
    spec = draw(
        st.fixed_dictionaries(
            {"containers": st.just(containers)},
            optional={
                "terminationGracePeriodSeconds": st.integers(0, 300),
                "volumes": st.lists(st.fixed_dictionaries({"name": NAMES, "emptyDir": st.just({})}), max_size=2),
                "initContainers": st.lists(
                    st.fixed_dictionaries({"name": NAMES}, optional={"restartPolicy": st.just("Always")}),
                    max_size=2,
                ),
                "securityContext": st.sampled_from([{}, {"runAsUser": 0}, {"runAsUser": 1000}, None]),
                "hostPID": st.booleans(),
                "futureField": st.just({"a": [1, None]}),
            },
        )
    )
    notes = draw(st.dictionaries(NAMES, st.text(max_size=5), max_size=2))
    return {"metadata": {"annotations": notes | {names.OPT_IN: "true"}, "generateName": "p-"}, "spec": spec}
