"""Every name that crikpy shares with the outside: paths, exit statuses, metric and variable names.

Nothing here is computed from the environment; rooms take these as given and settings override where they may.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

ENV_PREFIX: Final = "CRIKPY_"

LAUNCHER_PROTOCOL: Final = 1
"""Version in the launcher's greeting; see docs/formats.md."""

FORMAT_VERSION: Final = 1
"""Version of the manifest and the chunks; see docs/formats.md."""

MANIFEST: Final = "manifest.json"
CLAIM: Final = "claim.json"
QUARANTINE: Final = "quarantine.json"
HOLDER: Final = "holder.json"

RUN_DIR: Final = Path("/run/crikpy")
"""Capsules of plain machines: sockets and their facts. On tmpfs, so that a reboot forgets them."""

LIB_DIR: Final = Path("/var/lib/crikpy")
"""Private temporary directories of capsules on plain machines."""

BUNDLE_DIR: Final = Path("/opt/crikpy/criu")
"""Where the CRIU bundle lies unless a setting says otherwise."""

BUNDLE_LOADER: Final = "ld-linux-x86-64.so.2"
"""The bundle's own dynamic loader, below its lib/."""

LAUNCHER_PATH: Final = Path("/opt/crikpy/launch")
EXITS_LIBRARY: Final = "exits.so"
LIMITS_LIBRARY: Final = "limits.so"
SESSIONS_LIBRARY: Final = "sessions.so"
TILES_LIBRARY: Final = "tiles.so"
"""Preloaded into a dumping CRIU, and two into a restoring one; they lie beside the launcher."""

LAUNCHER_SOCKET: Final = "launch.sock"

JOB_DIR_VARIABLE: Final = "CRIKPY_JOB_DIR"
"""Variable of jobs: where crikpy.job listens, if not in the launcher's directory."""

JOB_DIR: Final = ".crikpy"
"""That directory of a plain machine's capsule, below its directory for temporary files."""

PID_FLOOR: Final = 9000
"""Jobs get PIDs above this one, so that they never meet those of programs that enter the capsule."""

EXIT_CHECKPOINTED: Final = 75
"""Exit status after a committed checkpoint: EX_TEMPFAIL of sysexits.h, "try again later"."""

PLAIN_GROUP: Final = ("machines", "default")
"""Cluster and namespace of jobs on plain machines unless the user names others."""

CAPTURE_SOCKET: Final = "streamer-capture.sock"
SERVE_SOCKET: Final = "streamer-serve.sock"
"""Names that CRIU expects in its images directory (criu/include/img-streamer.h)."""

DOMAIN: Final = "crikpy.io"
"""Group of our API and prefix of every annotation, label and taint."""

API_VERSION: Final = f"{DOMAIN}/v1alpha1"

OPT_IN: Final = f"{DOMAIN}/checkpoint"
CONTAINERS: Final = f"{DOMAIN}/containers"
INTERVAL: Final = f"{DOMAIN}/interval"
ON_REBALANCE: Final = f"{DOMAIN}/on-rebalance"
PRIORITY: Final = f"{DOMAIN}/priority"
EXCLUDE_VOLUMES: Final = f"{DOMAIN}/exclude-volumes"
RESTORE_FAILURE: Final = f"{DOMAIN}/restore-failure"
KEEP: Final = f"{DOMAIN}/keep"
RECREATE: Final = f"{DOMAIN}/recreate"
PLACEMENT: Final = f"{DOMAIN}/placement"
MISFIT: Final = f"{DOMAIN}/misfit"
HOOK_TIMEOUT: Final = f"{DOMAIN}/hook-timeout"
SIGNAL_BEFORE: Final = f"{DOMAIN}/signal-before"
SIGNAL_WAIT: Final = f"{DOMAIN}/signal-wait"
SIGNAL_AFTER: Final = f"{DOMAIN}/signal-after"
SIGNAL_RESTORED: Final = f"{DOMAIN}/signal-restored"
MODE: Final = f"{DOMAIN}/mode"
APPLICATION_SIGNAL: Final = f"{DOMAIN}/application-signal"
APPLICATION_DIRECTORY: Final = f"{DOMAIN}/application-directory"
GROUP: Final = f"{DOMAIN}/group"
GROUP_SIZE: Final = f"{DOMAIN}/group-size"
"""Annotations of pods that users write; crikpy.kube.annotations says which values they take."""

INJECTED: Final = f"{DOMAIN}/injected"
"""Annotation of pods that the webhook writes: a comma list of the containers below our launcher."""

RECREATE_FROM: Final = f"{DOMAIN}/recreate-from"
"""Annotation of Checkpoint objects: the JSON of the bare pod that is made again once it is gone."""

TRACEPARENT: Final = f"{DOMAIN}/traceparent"
"""Annotation of Checkpoint objects: the trace of the rescue, as W3C writes it, where the controller traces."""

FINALIZER: Final = f"{DOMAIN}/stored"
"""Finalizer of Checkpoint objects: what the store holds for one goes before it does."""

LABEL_DISCARD_ON: Final = f"{DOMAIN}/discard-on"
"""Label of Checkpoint objects that are being deleted: the node whose agent removes what the store holds for it."""

LABEL_POD_UID: Final = f"{DOMAIN}/pod-uid"
LABEL_NODE: Final = f"{DOMAIN}/node"
"""Labels of Checkpoint objects."""

TAINT: Final = f"{DOMAIN}/interruption"
"""Taint of a node under a notice; its value is the trigger, its effect NoSchedule where the node surely goes, and
PreferNoSchedule under a rebalance recommendation."""

CORDONED: Final = f"{DOMAIN}/cordoned-for"
"""Annotation of nodes that we cordoned ourselves: the notice's id. Without it a cordon is somebody else's."""

UNCORDONED: Final = f"{DOMAIN}/uncordoned-for"
"""Annotation of nodes that somebody uncordoned although a notice of this id is in force: it stays so."""

REPORTED: Final = f"{DOMAIN}/reported-notice"
"""Annotation of nodes: a notice that the controller heard of from outside of the cluster (crikpy.kube.nodes)."""

CONDITION_NOTICE: Final = "CrikpyInterruptionNotice"
CONDITION_READY: Final = "CrikpyReady"
"""Conditions of nodes that their agents write."""

LABEL_READY: Final = f"{DOMAIN}/ready"
"""Label of nodes: `true` where jobs can be saved, `false` where an agent runs and says that they cannot."""

LABEL_CPU: Final = f"{DOMAIN}/cpu"
"""Label of nodes, annotation of Checkpoint objects: a digest of the CPU features that programs can use there."""

LABEL_FAMILY: Final = f"{DOMAIN}/instance-family"
"""Label of nodes that their agents write: `m7i` of `m7i.4xlarge`."""

CPU_FEATURES: Final = f"{DOMAIN}/cpu-features"
"""Annotation of nodes that their agents write: the features behind that digest, sorted, separated by blanks."""

INSTANCE_TYPE: Final = f"{DOMAIN}/instance-type"
"""Annotation of Checkpoint objects: the instance type of the node that the pod ran on."""

POD_STARTED: Final = f"{DOMAIN}/pod-started"
"""Annotation of Checkpoint objects: since when the pod's jobs had been running when it was made."""

LABEL_WELL_KNOWN_TYPE: Final = "node.kubernetes.io/instance-type"
LABEL_WELL_KNOWN_ARCH: Final = "kubernetes.io/arch"
"""Labels of nodes that Kubernetes and cloud providers write."""

DISRUPTION_TARGET: Final = "DisruptionTarget"
"""Condition of pods that Kubernetes sets before it ends them for the node's sake (KEP-3329)."""

LAUNCHER_VOLUME: Final = "crikpy-launcher"
LAUNCHER_CONTAINER: Final = "crikpy-launcher"
LAUNCHER_DIR: Final = "/.crikpy"
"""The volume and init container that the webhook adds, and where a container sees its own part of the volume."""

AGENT: Final = "crikpy-agent"
CONTROLLER: Final = "crikpy-controller"
WEBHOOK: Final = "crikpy-webhook"
"""What the manifests call the agents, the controllers and their Lease, the webhook's service and configuration."""

FIELD_MANAGER_AGENT: Final = "crikpy-agent"
FIELD_MANAGER_CONTROLLER: Final = "crikpy-controller"
