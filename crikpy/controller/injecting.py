"""A pod with the launcher in it: one volume, one init container, and another first word for each chosen command.

Pure, and a description of what must be rather than steps: what is there already stays, so that the same pod may
come again, changed by others meanwhile or not. Everything is valid under the PodSecurity standard `restricted`
(Kubernetes, "Pod Security Standards") and under whatever limits and quotas the pod itself obeys.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Final

from crikpy import names
from crikpy.controller.eligible import has_launcher
from crikpy.controller.placing import without_placement
from crikpy.kube import raw
from crikpy.kube.pods import LAUNCH, original_command
from crikpy.kube.raw import Json
from crikpy.settings import ControllerSettings

_USER: Final = 65532
"""Whom the launcher's image runs as, where the pod does not say: nobody's number, known as `nonroot`."""

_VOLUME_SIZE: Final = "64Mi"
"""Bound of the volume: a launcher of less than a mebibyte and a socket for each container."""

_BOUNDED: Final = ("cpu", "memory", "ephemeral-storage")
_DEFAULT_GRACE_S = 30
"""What the API server fills in for `terminationGracePeriodSeconds`, so that nobody has asked for it."""


def inject(pod: Json, chosen: Mapping[str, tuple[str, ...]], settings: ControllerSettings) -> Json:
    """Return the pod with the launcher.

    Args:
        pod: raw JSON of a pod; stays as it is.
        chosen: names of the containers that are to run below the launcher, each with the words that its image
            would run; empty where the container has a `command` of its own. At least one.
        settings: of the controller.
    """
    changed = copy.deepcopy(pod)
    metadata, spec = changed.setdefault("metadata", {}), changed["spec"]
    for container in raw.items(spec.get("containers")):
        if container.get("name") in chosen:
            _put_below_launcher(container, chosen[container["name"]], settings)
    below = [container for container in raw.items(spec.get("containers")) if has_launcher(container)]
    _add_volume(spec)
    _add_init_container(spec, below, settings)
    spec["terminationGracePeriodSeconds"] = max(_grace_of(spec), settings.grace_period_s)
    metadata["annotations"] = raw.mapping(metadata.get("annotations")) | {
        names.INJECTED: ",".join(container["name"] for container in below)
    }
    return changed


def keep_injected(pod: Json, old: Json) -> Json:
    """Return an update of a pod without what would take the launcher out of it.

    Whoever applies the manifest of a pod again sends the commands that it had before us, which the API server
    would refuse, as it refuses every change of a running pod's commands and grace period.

    Args:
        pod: raw JSON of the pod as it would become; stays as it is.
        old: the pod as it is.
    """
    changed = copy.deepcopy(pod)
    spec, old_spec = raw.mapping(changed.get("spec")), raw.mapping(old.get("spec"))
    below = {one.get("name"): one for one in raw.items(old_spec.get("containers")) if has_launcher(one)}
    for container in raw.items(spec.get("containers")):
        before = raw.texts(raw.mapping(below.get(container.get("name"))).get("command"))
        if before and raw.texts(container.get("command")) == original_command(before):
            container["command"] = list(before)
    if below and "terminationGracePeriodSeconds" in old_spec:
        spec["terminationGracePeriodSeconds"] = old_spec["terminationGracePeriodSeconds"]
    placed = raw.mapping(old_spec.get("affinity"))
    if below and without_placement(placed) == raw.mapping(spec.get("affinity")) != placed:
        spec["affinity"] = copy.deepcopy(placed)
    return changed


def grace_warning(pod: Json, settings: ControllerSettings) -> str:
    """Return what to say of a grace period that its user chose and that is too short to save in, or nothing."""
    grace_s = _grace_of(raw.mapping(pod.get("spec")))
    if grace_s == _DEFAULT_GRACE_S or grace_s >= settings.grace_period_s:
        return ""
    return (
        f"crikpy raises terminationGracePeriodSeconds from {grace_s} to {settings.grace_period_s}:"
        " a checkpoint must fit into it"
    )


def _grace_of(spec: Json) -> int:
    return raw.number(spec.get("terminationGracePeriodSeconds"), _DEFAULT_GRACE_S)


def _put_below_launcher(container: Json, image_words: tuple[str, ...], settings: ControllerSettings) -> None:
    if has_launcher(container):
        return
    words = original_command(raw.texts(container.get("command"))) or tuple(map(_escape, image_words))
    container["command"] = [LAUNCH, "--agent-wait", str(settings.agent_wait_s), "--", *words]
    others = [
        mount for mount in raw.items(container.get("volumeMounts")) if mount.get("name") != names.LAUNCHER_VOLUME
    ]
    container["volumeMounts"] = [*others, _mount(container, names.LAUNCHER_DIR)]


def _escape(word: str) -> str:
    """Return an image's word so that kubelet hands it on as it is: in a pod `$(NAME)` and `$$` mean something."""
    return word.replace("$", "$$")


def _add_volume(spec: Json) -> None:
    volumes = list(raw.items(spec.get("volumes")))
    if not any(volume.get("name") == names.LAUNCHER_VOLUME for volume in volumes):
        spec["volumes"] = [*volumes, {"name": names.LAUNCHER_VOLUME, "emptyDir": {"sizeLimit": _VOLUME_SIZE}}]


def _add_init_container(spec: Json, below: list[Json], settings: ControllerSettings) -> None:
    """Put it first, so that a sidecar among the init containers that has the launcher's volume finds it filled."""
    others = list(raw.items(spec.get("initContainers")))
    known = next((container for container in others if container.get("name") == names.LAUNCHER_CONTAINER), None)
    mine = known if known is not None else _init_container(spec, below[0], settings)
    mine["args"] = ["install", *(_place(container) for container in below)]
    mounts = list(raw.items(mine.get("volumeMounts")))
    mounted = {mount.get("mountPath") for mount in mounts}
    mine["volumeMounts"] = mounts + [
        _mount(container, _place(container)) for container in below if _place(container) not in mounted
    ]
    spec["initContainers"] = others if known is not None else [mine, *others]


def _place(container: Json) -> str:
    """Return where the init container sees a container's part of the volume."""
    return f"{names.LAUNCHER_DIR}/{container['name']}"


def _mount(container: Json, path: str) -> Json:
    """Return the mount of a container's part of the volume; no container sees another's."""
    return {"name": names.LAUNCHER_VOLUME, "mountPath": path, "subPath": container["name"]}


def _init_container(spec: Json, model: Json, settings: ControllerSettings) -> Json:
    container: Json = {
        "name": names.LAUNCHER_CONTAINER,
        "image": settings.launcher_image,
        "securityContext": _security_context(spec),
    }
    if settings.launcher_pull_policy:
        container["imagePullPolicy"] = settings.launcher_pull_policy
    if resources := _resources_like(model):
        container["resources"] = resources
    return container


def _security_context(spec: Json) -> Json:
    context: Json = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if not raw.number(raw.mapping(spec.get("securityContext")).get("runAsUser")):
        context["runAsUser"] = _USER
    return context


def _resources_like(container: Json) -> Json:
    """Return the requests and limits of a container of the pod itself.

    They obey every LimitRange and ResourceQuota that the pod obeys, leave its class of service as it is, and cost
    nothing: what init containers ask for is not added to what the others ask for, the larger counts.
    """
    wanted = raw.mapping(container.get("resources"))
    return {
        part: bounds
        for part in ("requests", "limits")
        if (bounds := {name: value for name, value in raw.mapping(wanted.get(part)).items() if name in _BOUNDED})
    }
