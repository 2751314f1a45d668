"""What to do about an error that does not say so itself: one sentence for each class of errors.

The place that raises knows best; this is for those that cannot know more than the class tells.
"""

from __future__ import annotations

from typing import Final

from crikpy import errors

_BY_CLASS: Final[dict[type[errors.CrikpyError], str]] = {
    errors.CrikpyError: "run it again as `crikpy --debug …` and report what that prints",
    errors.UsageError: "`crikpy COMMAND --help` shows what can be asked for",
    errors.DeadlineError: "give it more time: CRIKPY_RUN_MANUAL_DEADLINE_S",
    errors.NodeError: "`crikpy check` says what this machine lacks",
    errors.CapsuleError: "see whether the job still runs, then try again",
    errors.FilesystemError: "see whether the named files are there, and --exclude what need not travel",
    errors.UnsupportedJobError: "change the job as said; until then it runs unsaved",
    errors.CriuError: "`crikpy check` says what this machine lacks",
    errors.GpuError: "see docs/gpu.md; `crikpy check` says whether jobs on this machine's GPUs can be saved",
    errors.IncompatibleError: "resume it on a machine like the one it was taken on",
    errors.StoreError: "check the URL of the store and the CRIKPY_STORE_ settings",
    errors.StoreUnavailableError: "check the network and the store's endpoint, then try again",
    errors.StoreForbiddenError: "check the credentials of this process and what they may do",
    errors.StoreFullError: "make room, or run `crikpy gc`",
    errors.ObjectNotFoundError: "`crikpy verify` shows what is missing, `crikpy rm` removes the checkpoint",
    errors.CheckpointNotFoundError: "`crikpy list` shows what there is",
    errors.IntegrityError: "`crikpy list` shows damaged checkpoints, `crikpy rm` removes one",
    errors.FormatVersionError: "use a newer release of crikpy",
    errors.AnnotationError: "correct the annotation; docs/kubernetes.md lists them",
    errors.RegistryError: "give the container an explicit command",
    errors.KubeError: "see what the API server says, `kubectl version` and `kubectl get --raw /readyz`",
    errors.KubeUnavailableError: "see whether the API server is up: `kubectl get --raw /readyz`",
    errors.KubeForbiddenError: "see what this account may do: `kubectl auth can-i --list`",
    errors.KubeNotFoundError: "see `kubectl get ckpt -A`; install crikpy's manifests if that kind is unknown",
    errors.EvictionBlockedError: "see `kubectl get poddisruptionbudgets -A`",
    errors.MetadataError: "set CRIKPY_NOTICES_IMDS_ENABLED=false where there is no metadata service",
}


def remedy_of(error: errors.CrikpyError) -> str:
    """Return the error's own remedy, or that of the nearest class that has one."""
    return error.remedy or next(_BY_CLASS[kind] for kind in type(error).__mro__ if kind in _BY_CLASS)
