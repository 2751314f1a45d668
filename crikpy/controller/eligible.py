"""Which containers of an opted-in pod get the launcher, and what its user must be told about the others.

Pure: a pod's raw JSON in, names and sentences out. A wish that cannot be read is refused, since its user is there
to hear it; a pod that merely cannot be saved runs as if it had not opted in, and a warning says why.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from crikpy import names
from crikpy.errors import AnnotationError
from crikpy.kube import identity, raw
from crikpy.kube.annotations import ALLOWED, describe_fault, parse_options, unknown_annotations
from crikpy.kube.pods import LAUNCH
from crikpy.kube.raw import Json
from crikpy.model.pods import PodOptions

_DEVICES: Final = ("nvidia.com/", "amd.com/gpu", "gpu.intel.com/", "habana.ai/", "aws.amazon.com/neuron")
"""Beginnings of resource names of accelerators, whose memory no checkpoint holds."""

_GPU: Final = "nvidia.com/gpu"
"""The one among these that a node may be able to save: a whole GPU of NVIDIA's."""

_BOUND_TO_THEIR_NODE: Final = ("DaemonSet", "Node")
"""Kinds whose pods never go elsewhere: evicted, such a pod comes back to the very node that is going away. `Node`
owns the mirrors of static pods, which kubelet runs from its own files, whatever is written here."""

_STANDS_STILL_S = 60
"""A liveness probe that gives up sooner may restart a job that only stands still for its checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is to become of the containers of a pod.

    Attributes:
        ready: names of the containers that get the launcher, or have it, and say themselves what they run.
        imaged: names of those whose image says what they run.
        warnings: sentences for the user.
    """

    ready: tuple[str, ...] = ()
    imaged: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def choose(pod: Json) -> Choice:
    """Return the choice for a pod that has opted in.

    Raises:
        AnnotationError: an annotation has a bad value, or names something that the pod does not have.
    """
    metadata, spec = raw.mapping(pod.get("metadata")), raw.mapping(pod.get("spec"))
    notes = raw.string_map(metadata.get("annotations"))
    options = parse_options(notes)
    _require_names(notes, options, spec)
    warnings = list(_side_notes(pod, notes, options))
    if obstacle := _obstacle(pod, spec):
        return Choice(warnings=(*warnings, f"crikpy cannot save this pod, which runs on unsaved: {obstacle}"))
    containers = list(raw.items(spec.get("containers")))
    come_again = any(map(has_launcher, containers))
    ready: list[str] = []
    imaged: list[str] = []
    for container in containers:
        name = raw.text(container.get("name"))
        if options.containers and name not in options.containers:
            continue
        late = come_again and name not in options.containers
        if obstacle := _container_obstacle(container, late=late):
            warnings.append(f"crikpy leaves container {name} alone, which runs on unsaved: {obstacle}")
            continue
        (ready if raw.texts(container.get("command")) else imaged).append(name)
        warnings += _container_notes(container)
    return Choice(ready=tuple(ready), imaged=tuple(imaged), warnings=tuple(warnings))


def has_launcher(container: Json) -> bool:
    """Say whether a container runs below our launcher already."""
    return raw.texts(container.get("command"))[:1] == (LAUNCH,) and any(
        mount.get("name") == names.LAUNCHER_VOLUME for mount in raw.items(container.get("volumeMounts"))
    )


def _require_names(notes: dict[str, str], options: PodOptions, spec: Json) -> None:
    """Raise unless the containers and volumes that the annotations name exist, all faults at once."""
    containers = [raw.text(container.get("name")) for container in raw.items(spec.get("containers"))]
    volumes = [
        raw.text(volume.get("name"))
        for volume in raw.items(spec.get("volumes"))
        if "emptyDir" in volume and volume.get("name") != names.LAUNCHER_VOLUME
    ]
    faults = [
        describe_fault(
            annotation, notes[annotation], f"{ALLOWED[annotation]}: {', '.join(known) or 'it has none'}"
        )
        for annotation, wanted, known in (
            (names.CONTAINERS, options.containers, containers),
            (names.EXCLUDE_VOLUMES, options.excluded_volumes, volumes),
        )
        if not set(wanted) <= set(known)
    ]
    if any(_takes_our_name(volume) for volume in raw.items(spec.get("volumes"))):
        faults.append(f"the volume name {names.LAUNCHER_VOLUME} is reserved for crikpy; rename the pod's own")
    if faults:
        raise AnnotationError("; ".join(faults))


def _takes_our_name(volume: Json) -> bool:
    return volume.get("name") == names.LAUNCHER_VOLUME and "emptyDir" not in volume


def _side_notes(pod: Json, notes: dict[str, str], options: PodOptions) -> Iterator[str]:
    for unknown, meant in unknown_annotations(notes):
        hint = f"did you mean {meant}?" if meant else "see the documentation for those that there are"
        yield f"crikpy knows no annotation {unknown}; {hint}"
    if options.recreate and identity.owner_of(pod) is not None:
        yield f"crikpy ignores {names.RECREATE}: this pod has a controller, which makes it again"


def _obstacle(pod: Json, spec: Json) -> str:
    """Return why no container of a pod can be saved, or nothing."""
    owner = identity.owner_of(pod)
    if owner is not None and owner.kind in _BOUND_TO_THEIR_NODE:
        return f"it belongs to its node ({owner.kind}), and no other node has a use for it"
    if spec.get("hostPID") is True:
        return "it shares the node's processes (hostPID)"
    if spec.get("shareProcessNamespace") is True:
        return "its containers share their processes (shareProcessNamespace)"
    system = raw.text(raw.mapping(spec.get("os")).get("name"))
    wanted = raw.string_map(spec.get("nodeSelector")).get("kubernetes.io/os", "")
    if "windows" in (system, wanted):
        return "it runs on Windows"
    return ""


def _container_obstacle(container: Json, *, late: bool) -> str:
    """Return why a container cannot be saved, or nothing.

    Args:
        container: its raw JSON.
        late: somebody added it to a pod that has the launcher, as service meshes do; its image is not asked.
    """
    if container.get("tty") is True:
        return "it asks for a terminal (tty)"
    if container.get("stdin") is True:
        return "it keeps its standard input open (stdin)"
    if late and not raw.texts(container.get("command")):
        return "it was added after the launcher and has no command of its own"
    if not has_launcher(container) and any(map(_covers_launcher, raw.items(container.get("volumeMounts")))):
        return f"it mounts a volume of its own at {names.LAUNCHER_DIR}"
    return ""


def _covers_launcher(mount: Json) -> bool:
    if mount.get("name") == names.LAUNCHER_VOLUME:
        return False
    path = posixpath.normpath(raw.text(mount.get("mountPath")) or "/")
    return path == names.LAUNCHER_DIR or path.startswith(f"{names.LAUNCHER_DIR}/")


def _container_notes(container: Json) -> Iterator[str]:
    name = raw.text(container.get("name"))
    for device in raw.mapping(raw.mapping(container.get("resources")).get("limits")):
        if device == _GPU:
            yield (
                f"container {name} asks for {device}: crikpy can save it on nodes with NVIDIA's cuda-checkpoint"
                " only, as their condition CrikpyReady says"
            )
        elif device.startswith(_DEVICES):
            yield f"container {name} asks for {device}: while its job uses that, crikpy cannot save it"
    probe = raw.mapping(container.get("livenessProbe"))
    patience_s = raw.number(probe.get("periodSeconds"), 10) * raw.number(probe.get("failureThreshold"), 3)
    if probe and "exec" not in probe and patience_s < _STANDS_STILL_S:
        yield (
            f"container {name} is restarted after {patience_s} s without an answer to its livenessProbe, and does"
            " not answer during a checkpoint; raise its failureThreshold"
        )
