"""Pods, read from their raw JSON into what crikpy knows of them.

Reading never fails: an agent that stumbled over one odd pod would save none of the others. What is wrong with a
pod's annotations is kept in `fault`, for whoever tells its user.
"""

from __future__ import annotations

import re

from crikpy import names
from crikpy.errors import AnnotationError
from crikpy.kube import grouping, identity, raw
from crikpy.kube.annotations import opted_in, read_options
from crikpy.kube.raw import Json
from crikpy.model.pods import Container, Pod, VolumeMount

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DEFAULT_GRACE_S = 30

LAUNCH = f"{names.LAUNCHER_DIR}/launch"
"""The launcher as a container of a pod sees it; the first word of every injected command."""


def parse_pod(pod: Json) -> Pod:
    """Return what crikpy knows of a pod, from its raw JSON; never raises."""
    metadata, spec, status = (raw.mapping(pod.get(part)) for part in ("metadata", "spec", "status"))
    notes = raw.string_map(metadata.get("annotations"))
    options, fault = read_options(notes)
    deletion = metadata.get("deletionTimestamp")
    group, group_size = grouping.group_of(pod)
    return Pod(
        namespace=raw.text(metadata.get("namespace")),
        name=raw.text(metadata.get("name")),
        uid=raw.text(metadata.get("uid")),
        resource_version=raw.text(metadata.get("resourceVersion")),
        node=raw.text(spec.get("nodeName")),
        phase=raw.text(status.get("phase")) or "Pending",
        opted_in=_is_opted_in(notes),
        injected=injected_containers(notes),
        workload=identity.workload_name(pod),
        options=options,
        fault=fault,
        owner=identity.owner_of(pod),
        priority=raw.number(spec.get("priority")),
        grace_period_s=raw.number(spec.get("terminationGracePeriodSeconds"), _DEFAULT_GRACE_S),
        created=raw.time(metadata.get("creationTimestamp")),
        started=raw.time(status.get("startTime")),
        deleting=deletion is not None,
        deletion_deadline=raw.time(deletion),
        disruption=_disruption(status),
        containers=_containers(spec, status),
        group=group,
        group_size=group_size,
    )


def injected_containers(notes: dict[str, str]) -> tuple[str, ...]:
    """Return the names of the containers below our launcher, from the annotations of a pod."""
    return tuple(name for part in notes.get(names.INJECTED, "").split(",") if (name := part.strip()))


def original_command(command: tuple[str, ...]) -> tuple[str, ...]:
    """Return a container's `command` without the launcher and its options, where they stand before it."""
    if not command or command[0] != LAUNCH or "--" not in command:
        return command
    return command[command.index("--") + 1 :]


def _is_opted_in(notes: dict[str, str]) -> bool:
    try:
        return opted_in(notes)
    except AnnotationError:
        return False


def _disruption(status: Json) -> str:
    for condition in raw.items(status.get("conditions")):
        if condition.get("type") == names.DISRUPTION_TARGET and condition.get("status") == "True":
            return raw.text(condition.get("reason")) or names.DISRUPTION_TARGET
    return ""


def _containers(spec: Json, status: Json) -> tuple[Container, ...]:
    empty_dirs = {
        raw.text(volume.get("name")) for volume in raw.items(spec.get("volumes")) if "emptyDir" in volume
    }
    states = {raw.text(state.get("name")): state for state in raw.items(status.get("containerStatuses"))}
    return tuple(
        _container(container, states.get(raw.text(container.get("name")), {}), empty_dirs)
        for container in raw.items(spec.get("containers"))
    )


def _container(container: Json, state: Json, empty_dirs: set[str]) -> Container:
    digest = _DIGEST.search(raw.text(state.get("imageID")))
    return Container(
        name=raw.text(container.get("name")),
        command=original_command(raw.texts(container.get("command"))) + raw.texts(container.get("args")),
        mounts=tuple(
            VolumeMount(volume=volume, path=raw.text(mount.get("mountPath")), empty_dir=volume in empty_dirs)
            for mount in raw.items(container.get("volumeMounts"))
            if (volume := raw.text(mount.get("name"))) != names.LAUNCHER_VOLUME
        ),
        image_digest=digest[0] if digest else "",
        restarts=raw.number(state.get("restartCount")),
        started=raw.time(raw.mapping(raw.mapping(state.get("state")).get("running")).get("startedAt")),
    )
