"""Every error of crikpy, as one tree.

A caller decides by class, never by text: each class carries the exit status of the command line, the reason
used in Kubernetes Events and conditions, and whether the same act can succeed when tried again. The root is
never raised itself. Third-party exceptions are translated in the room that owns the library.

    CrikpyError
    ├── UsageError                    what the user typed or configured cannot be
    │   ├── SettingsError             an environment variable or file with a bad value
    │   └── AnnotationError           an annotation of a pod with a bad value
    ├── DeadlineError                 time ran out
    ├── NodeError                     this node cannot do it
    │   └── NotRootError
    ├── CapsuleError                  the job's namespaces or its launcher
    │   ├── LauncherError             the launcher refused or spoke something else
    │   │   └── NoLauncherError       nobody listens where the launcher would
    │   ├── NoSuchJobError            nothing of that name runs here
    │   ├── JobRunningError           somebody else runs a job of that name
    │   ├── FilesystemError           files of the job could not be read or put back
    │   ├── SelfSaveError             a job that was asked to save itself has not, or that could not be stored
    │   └── NotNowError               nothing was touched, another attempt may do; retryable
    │       └── PodEndingError        the pod is being ended and begins nothing
    ├── UnsupportedJobError           the job uses something that CRIU cannot save
    ├── CriuError                     CRIU itself failed
    │   ├── CriuMissingError
    │   ├── DumpError
    │   │   └── TilesInUseError       at this moment; another may be better; retryable
    │   └── RestoreError
    ├── GpuError                      the GPU's driver, or NVIDIA's tool for it, refused
    │   ├── GpuBusyError              at this moment; another may be better; retryable
    │   └── GpuStateLostError         a process was left without its GPU
    ├── GroupError                    another pod of the group could not be saved, or resumed
    ├── IncompatibleError             the checkpoint does not fit this machine
    ├── StoreError
    │   ├── StoreUnavailableError     network, 5xx, throttling; retryable
    │   ├── StoreForbiddenError       credentials or permissions
    │   ├── StoreFullError            no space or quota
    │   ├── NoSuchBucketError
    │   ├── ObjectNotFoundError       one object of the store is not there
    │   ├── CheckpointNotFoundError
    │   ├── CheckpointClaimedError    resumed elsewhere, or by somebody at this moment
    │   ├── IntegrityError            bytes that do not match their hash; never retried
    │   └── FormatVersionError        written by a newer crikpy
    ├── MetadataError                 the instance metadata service
    ├── AwsError                      EC2, SQS or Auto Scaling, apart from the store
    │   ├── AwsUnavailableError       network, 5xx, throttling; retryable
    │   └── AwsForbiddenError         credentials or permissions
    ├── RegistryError                 an image's entrypoint could not be looked up
    └── KubeError                     the Kubernetes API
        ├── KubeUnavailableError      network, 429, 5xx; retryable
        ├── KubeForbiddenError        401 and 403
        ├── KubeNotFoundError         404: no such object, or no such kind
        ├── KubeConflictError         409: it exists already, or was changed since it was read
        ├── KubeInvalidError          400 and 422: the object is not valid
        ├── KubeExpiredError          410: the resource version is too old; list again
        └── EvictionBlockedError      429 of an eviction: a disruption budget; retryable
"""

from __future__ import annotations

from crikpy.errors.base import CrikpyError as CrikpyError
from crikpy.errors.kubernetes import *  # noqa: F403 - they belong into this tree


class UsageError(CrikpyError):
    """What the user typed cannot be done as typed."""

    exit_code = 2
    reason = "BadUsage"


class SettingsError(UsageError):
    """A setting has a value that cannot be; the message lists every bad one."""

    exit_code = 3
    reason = "BadSettings"


class AnnotationError(UsageError):
    """An annotation has a value that cannot be; the message names it and what is allowed."""

    exit_code = 4
    reason = "BadAnnotation"


class DeadlineError(CrikpyError):
    """The deadline passed before the work was done."""

    exit_code = 10
    reason = "DeadlineExceeded"


class NodeError(CrikpyError):
    """This node lacks something that crikpy needs; `crikpy check` shows all of it."""

    exit_code = 11
    reason = "NodeNotReady"


class NotRootError(NodeError):
    """Only root may enter the namespaces of other processes."""

    exit_code = 12
    reason = "NotRoot"


class CapsuleError(CrikpyError):
    """The capsule (the job's namespaces and their launcher) is not as it must be."""

    exit_code = 20
    reason = "CapsuleFailed"


class LauncherError(CapsuleError):
    """The launcher refused an order, vanished, or spoke something else."""

    exit_code = 21
    reason = "LauncherFailed"


class NoLauncherError(LauncherError):
    """Nobody listens at the launcher's socket: there is no capsule, or none any more."""

    exit_code = 25
    reason = "NoLauncher"


class NoSuchJobError(CapsuleError):
    """No job of that name runs on this machine."""

    exit_code = 22
    reason = "NoSuchJob"


class JobRunningError(CapsuleError):
    """Somebody holds the name: a job may run only once."""

    exit_code = 23
    reason = "JobRunning"


class FilesystemError(CapsuleError):
    """Files of the job could not be captured or put back."""

    exit_code = 24
    reason = "FilesystemFailed"


class SelfSaveError(CapsuleError):
    """A job that was asked to save itself has not, or what it saved could not be stored.

    Attributes:
        ended: it has ended because it was asked to, and is not done.
    """

    exit_code = 28
    reason = "SelfSaveFailed"
    ended = False


class NotNowError(CapsuleError):
    """It could not be done now, and nothing was touched: look again, then try again."""

    exit_code = 26
    reason = "NotNow"
    retryable = True


class PodEndingError(NotNowError):
    """The pod is being ended: it is to begin nothing."""

    exit_code = 27
    reason = "PodEnding"
    retryable = False


class UnsupportedJobError(CrikpyError):
    """The job uses something that cannot be saved; it runs on untouched."""

    exit_code = 30
    reason = "UnsupportedJob"


class CriuError(CrikpyError):
    """CRIU ended badly; `detail` holds the end of its log."""

    exit_code = 31
    reason = "CriuFailed"


class CriuMissingError(CriuError):
    """No usable CRIU on this node, or one of a version known not to work."""

    exit_code = 32
    reason = "CriuMissing"


class DumpError(CriuError):
    """A dump failed; the job runs on."""

    exit_code = 33
    reason = "DumpFailed"


class TilesInUseError(DumpError):
    """A thread had something in registers that CRIU does not save; it will soon be done with them."""

    exit_code = 35
    reason = "TilesInUse"
    retryable = True


class RestoreError(CriuError):
    """A restore failed; nothing of the job runs."""

    exit_code = 34
    reason = "RestoreFailed"


class GpuError(CrikpyError):
    """What a job has on its GPUs could not be brought into memory, or back."""

    exit_code = 36
    reason = "GpuFailed"


class GpuBusyError(GpuError):
    """The GPU could not be halted in time, which work under way may be the reason of; the job runs on."""

    exit_code = 37
    reason = "GpuBusy"
    retryable = True


class GpuStateLostError(GpuError):
    """A process of a job that runs on was left without its GPU; only its end helps."""

    exit_code = 38
    reason = "GpuStateLost"


class GroupError(CrikpyError):
    """A group of pods could not be saved or resumed as one, for the sake of another member."""

    exit_code = 42
    reason = "GroupAbandoned"


class IncompatibleError(CrikpyError):
    """The checkpoint does not fit this machine; nothing was touched."""

    exit_code = 40
    reason = "Incompatible"


class StoreError(CrikpyError):
    """The store answered something that cannot be worked with."""

    exit_code = 50
    reason = "StoreFailed"


class StoreUnavailableError(StoreError):
    """The store could not be reached or was too busy."""

    exit_code = 51
    reason = "StoreUnavailable"
    retryable = True


class StoreForbiddenError(StoreError):
    """The store refused our credentials or what they may do."""

    exit_code = 52
    reason = "StoreForbidden"


class StoreFullError(StoreError):
    """The store has no room left."""

    exit_code = 53
    reason = "StoreFull"


class NoSuchBucketError(StoreError):
    """The bucket or directory of the store does not exist."""

    exit_code = 54
    reason = "NoSuchBucket"


class ObjectNotFoundError(StoreError):
    """One object of the store is not there, a chunk for instance."""

    exit_code = 59
    reason = "ObjectNotFound"


class CheckpointNotFoundError(StoreError):
    """No complete checkpoint of that name."""

    exit_code = 55
    reason = "CheckpointNotFound"


class CheckpointClaimedError(StoreError):
    """The checkpoint was resumed before; a checkpoint is resumed at most once."""

    exit_code = 56
    reason = "CheckpointClaimed"


class IntegrityError(StoreError):
    """Stored bytes are not what was written."""

    exit_code = 57
    reason = "Corrupt"


class FormatVersionError(StoreError):
    """The checkpoint has a format that this release does not know."""

    exit_code = 58
    reason = "FormatTooNew"


class MetadataError(CrikpyError):
    """The instance metadata service does not answer as documented."""

    exit_code = 60
    reason = "MetadataFailed"
    retryable = True


class AwsError(CrikpyError):
    """An AWS API other than the store's refused."""

    exit_code = 62
    reason = "AwsFailed"


class AwsUnavailableError(AwsError):
    """The API is out of reach, overloaded or throttles."""

    exit_code = 63
    reason = "AwsUnavailable"
    retryable = True


class AwsForbiddenError(AwsError):
    """No credentials, or they do not permit it."""

    exit_code = 64
    reason = "AwsForbidden"


class RegistryError(CrikpyError):
    """An image's registry did not tell the image's entrypoint."""

    exit_code = 61
    reason = "RegistryFailed"
