"""What takes the place of the agents on their nodes, to remove the directory that they kept there.

No process but one on the node can do that, and the agents cannot know that they will not come back. So the
DaemonSet gets another template in place: it still says on which nodes agents were, should this be broken off and
begun anew.
"""

from __future__ import annotations

import copy
from pathlib import PurePosixPath
from typing import Final

from crikpy.kube.raw import Json, items, mapping, number, text

_STATE: Final = "state"
"""The agent's volume for what it keeps on its node (daemonset/base/daemonset.yaml)."""

_SWEEP: Final = "sweep"
_KEPT: Final = (
    "serviceAccountName",
    "priorityClassName",
    "tolerations",
    "nodeSelector",
    "affinity",
    "imagePullSecrets",
)


def is_sweeper(daemon_set: Json) -> bool:
    """Say whether the agents' place is taken already."""
    return any(each.get("name") == _SWEEP for each in items(_pod(daemon_set).get("initContainers")))


def render_sweeper(daemon_set: Json) -> Json | None:
    """Return the agents' DaemonSet with what removes their directory; None where none is kept."""
    pod = _pod(daemon_set)
    volume = next((each for each in items(pod.get("volumes")) if each.get("name") == _STATE), {})
    path = PurePosixPath(text(mapping(volume.get("hostPath")).get("path")))
    image = next((text(each.get("image")) for each in items(pod.get("containers"))), "")
    if not image or len(path.parts) < 3:
        return None
    kept: Json = {name: pod[name] for name in _KEPT if name in pod}
    swept = copy.deepcopy(daemon_set)
    swept.pop("status", None)
    swept["spec"]["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}}
    limits: Json = {"resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}}
    swept["spec"]["template"]["spec"] = {
        **kept,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "initContainers": [
            {
                "name": _SWEEP,
                "image": image,
                "command": ["rm", "-rf", "--one-file-system", "--", f"/host/{path.name}"],
                # As the agent was: where SELinux is in force, nothing less may write there.
                "securityContext": {"privileged": True, "runAsUser": 0, "readOnlyRootFilesystem": True},
                "volumeMounts": [{"name": _STATE, "mountPath": "/host"}],
                **limits,
            }
        ],
        "containers": [
            {
                "name": "swept",
                "image": image,
                "command": ["sleep", "infinity"],
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 65532,
                    "readOnlyRootFilesystem": True,
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
                **limits,
            }
        ],
        "volumes": [{"name": _STATE, "hostPath": {"path": str(path.parent), "type": "Directory"}}],
    }
    return swept


def unswept(daemon_set: Json) -> int:
    """Return on how many nodes that is not done yet."""
    status = mapping(daemon_set.get("status"))
    wanted = number(status.get("desiredNumberScheduled"))
    if number(status.get("observedGeneration")) < number(mapping(daemon_set.get("metadata")).get("generation")):
        return max(1, wanted)
    done = min(number(status.get("updatedNumberScheduled")), number(status.get("numberAvailable")))
    return max(0, wanted - done)


def _pod(daemon_set: Json) -> Json:
    return mapping(mapping(mapping(daemon_set.get("spec")).get("template")).get("spec"))
