"""Settings of every process of crikpy: frozen groups, read once from an environment, then passed down.

Reading never stops at the first bad value: one SettingsError lists them all. Nothing here looks at the
machine; a default is a constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crikpy import environment, names

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """How the chunk store is reached and how much of this machine it may use."""

    endpoint: str = ""
    """URL of an S3 server other than AWS's; empty means AWS."""

    region: str = ""
    """Region; empty leaves it to the AWS configuration of the environment."""

    path_style: bool = False
    """Put the bucket into the path instead of the host name; most servers other than AWS's need it."""

    sse: str = ""
    """Value of the x-amz-server-side-encryption header, `AES256` or `aws:kms`; empty sends none."""

    sse_key: str = ""
    """KMS key id for `aws:kms`; empty uses the bucket's."""

    key_file: str = ""
    """Path of a file of keys, 32 random bytes in base64 in each line, with which chunks and manifests are sealed:
    the first one seals, all of them open, and nothing else is believed. Empty leaves sealing to the store."""

    kms_key: str = ""
    """AWS KMS key, in place of a file of keys: the ARN of a key or an alias, or `alias/NAME`. KMS makes a data key
    for each workload, which lies in the store wrapped by it. Several, separated by commas: the first one wraps,
    all of them unwrap."""

    data_key_days: float = 90.0
    """Age at which a data key made by KMS seals nothing more and another is made; it goes on to open."""

    sign_bodies: str = "http"
    """When to hash what is sent for its signature: `http`, over plain HTTP only, since TLS protects it as well and
    costs less; `always`, where a bucket's policy asks for it; `never`."""

    memory_bytes: int = 512 * MIB
    """Bound of the whole program's memory during a transfer, whatever the size of the job."""

    staging_bytes: int = 0
    """Further memory where what is read of a job that runs on may wait for the store, so that it goes on sooner.
    Never more than the machine has free; an agent's memory limit must be larger by it."""

    transfers: int = 8
    """Requests under way at once."""

    upload_bytes_per_s: int = 0
    """Most bytes per second to the store; 0 sets no bound. An agent keeps to it only for pods that run on."""

    unhurried_nice: int = 10
    """Nice value (sched(7)) at which an agent hashes and compresses what it read of pods that run on, once they
    do; 0 takes an equal share of the cores."""

    compression: int = -1
    """zstd level; negative levels are the fast ones. Measured in docs/benchmarks.md."""

    request_timeout_s: float = 20.0
    """Longest silence of the store within one request before it is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CriuSettings:
    """Which CRIU runs, and what it may do."""

    bundle: Path = names.BUNDLE_DIR
    """The bundle made by hack/criu-bundle."""

    launcher: Path = names.LAUNCHER_PATH
    """The static launcher."""

    ghost_limit_bytes: int = 512 * MIB
    """Largest file that was deleted while open and still travels inside the checkpoint."""

    collect_timeout_s: int = 30
    """How long CRIU may take to stop every task of the job."""

    node_root: Path = Path("/")
    """Root of the mount namespace in which the container runtime runs; `/proc/1/root` for an agent in a pod."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSettings:
    """How jobs on NVIDIA GPUs are saved."""

    cuda_checkpoint: str = ""
    """Path of NVIDIA's cuda-checkpoint below CRIKPY_CRIU_NODE_ROOT; empty looks for it in /usr/local/bin, /usr/bin
    and /opt/crikpy."""

    nvidia_smi: str = ""
    """Path of nvidia-smi likewise, which says how much memory of the GPUs a job has; empty looks in /usr/bin and
    /usr/local/bin. Without it nobody knows beforehand whether that fits into the node's."""

    libraries: str = ""
    """Directory of the driver's libcuda.so.1 below CRIKPY_CRIU_NODE_ROOT where the node's loader does not find it,
    such as /run/nvidia/driver/usr/lib/x86_64-linux-gnu with the driver container of the GPU operator."""

    driver_proc: Path = Path("/proc/driver/nvidia")
    """Where the driver tells of itself and its GPUs."""

    lock_s: float = 10.0
    """How long the processes of a job may take to let go of their GPUs, for each attempt to save it."""

    give_back_s: float = 120.0
    """How long a job that runs on may take to get its GPUs back before it is said to have lost them."""

    at_once: int = 8
    """Processes of a job whose GPU memory is moved at once."""

    managed_bytes: int = 64 * MIB
    """Areas of /dev/nvidia-uvm up to which a process is taken not to use managed memory, which cannot be saved:
    the driver maps some of it for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeSettings:
    """Where interruption notices come from."""

    imds_endpoint: str = "http://169.254.169.254"
    """The instance metadata service."""

    imds_enabled: bool = True
    """Off on machines that are not EC2's."""

    poll_interval_s: float = 1.0
    """Time between two looks. AWS advises 5 s; each second counts when there are 120."""

    request_timeout_s: float = 2.0
    """Longest wait for one answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """Where the controller hears of interruptions, besides what the agents tell it."""

    queue_url: str = ""
    """URL of the SQS queue that EventBridge, Auto Scaling or SNS fill; empty reads none."""

    region: str = ""
    """Region of queue and instances; empty takes it from the queue's URL, else from the AWS configuration."""

    queue_visibility_s: int = 60
    """How long a message is kept from other readers while it is acted upon; prolonged as long as that takes."""

    hook_heartbeat_s: float = 20.0
    """Time between two heartbeats of a lifecycle hook; below the hook's own heartbeat timeout, 30 s at least."""

    hook_longest_s: float = 3600.0
    """How long an instance is kept from termination by heartbeats at most."""

    poll_enabled: bool = False
    """Ask EC2 itself for spot requests and instance status: for accounts without a queue."""

    poll_interval_s: float = 15.0
    """Time between two polls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalSettings:
    """Which signs on a Node object say that it goes away; agents and the controller need the same."""

    enabled: bool = True
    """Take notice of such signs at all: taints, kubelet's shutdown, deletion of the Node object."""

    taints: str = (
        "karpenter.sh/disrupted:NoSchedule Drain,"
        "karpenter.sh/disruption:NoSchedule Drain,"
        "ToBeDeletedByClusterAutoscaler:NoSchedule Drain,"
        "aws-node-termination-handler/spot-itn SpotInterruption,"
        "aws-node-termination-handler/scheduled-maintenance ScheduledEvent,"
        "aws-node-termination-handler/asg-lifecycle-termination NodeShutdown,"
        "aws-node-termination-handler/rebalance-recommendation RebalanceRecommendation,"
        "remediator.kubernetes.azure.com/unschedulable NodeShutdown,"
        "cloud.google.com/impending-node-termination NodeShutdown,"
        "node.kubernetes.io/out-of-service Lost,"
        "node.cloudprovider.kubernetes.io/shutdown Lost"
    )
    """The table: `KEY[:EFFECT] MEANING`, separated by commas. Meanings are SpotInterruption, ScheduledEvent and
    NodeShutdown (saved and ended at once), Drain (saved while it runs, and for good when its pod is ended),
    RebalanceRecommendation (as crikpy.io/on-rebalance says), Lost (too late to save) and Ignore."""

    more_taints: str = ""
    """Further lines of that table; one with a key and effect that stands there replaces it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How `crikpy run` behaves."""

    run_dir: Path = names.RUN_DIR
    """Sockets and records of running jobs."""

    lib_dir: Path = names.LIB_DIR
    """The jobs' own directories for temporary files; must be the same path on every machine."""

    manual_deadline_s: float = 600.0
    """How long a checkpoint may take when nothing presses."""

    scheduled_lead_s: float = 900.0
    """How long before scheduled maintenance a job is moved; AWS announces it days ahead."""

    lease_s: float = 60.0
    """How long a name stays taken after its holder was last heard of."""

    agent_wait_s: float = 30.0
    """After this long without us the launcher starts the job by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeSettings:
    """How the Kubernetes API is reached."""

    cluster: str = "kubernetes"
    """Name of this cluster in the store; two clusters that share a store need two names."""

    kubeconfig: str = ""
    """Path of a kubeconfig; empty takes the pod's service account, else KUBECONFIG or ~/.kube/config."""

    context: str = ""
    """Context of the kubeconfig; empty takes its current one."""

    request_timeout_s: float = 10.0
    """Longest wait for one answer."""

    watch_silence_s: float = 180.0
    """A watch that has brought nothing for so long, not even a bookmark, is begun anew."""

    lease_s: float = 15.0
    """How long a controller stays the leader after it was last heard of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """How `crikpy agent` behaves."""

    node: str = ""
    """Name of the node; the manifests take it from the pod's own description."""

    kubelet_dir: Path = Path("/var/lib/kubelet")
    """kubelet's root directory, below which the launchers' sockets lie."""

    state_dir: Path = Path("/var/lib/crikpy/agent")
    """What the agent must remember across its own restarts when the API server is away."""

    address: str = ""
    """Where /healthz, /readyz and /metrics are served; empty is all of IPv4 and IPv6."""

    port: int = 9477
    """Port of /healthz, /readyz and /metrics."""

    dumps: int = 2
    """Pods that are saved at once; they share CRIKPY_STORE_MEMORY_BYTES."""

    assumed_bytes_per_s: int = 256 * MIB
    """Bytes of memory per second that a dump is expected to manage until this node has measured its own."""

    rescan_s: float = 10.0
    """Time between two looks at the whole of kubelet's directory; changes are noticed at once besides."""

    gather_s: float = 600.0
    """How long containers of a pod to be resumed wait for the others, whose images may still be pulled."""

    api_wait_s: float = 60.0
    """How long a new pod waits for the API server to say whose it is, before it starts from the beginning."""

    origin_wait_s: float = 150.0
    """How long a new pod waits for the end of the one whose checkpoint it would resume."""

    move_wait_s: float = 60.0
    """How long a pod that came to a node on which its checkpoint cannot be resumed waits to be moved; then it
    starts as if its restore had failed."""

    look_after_s: float = 10.0
    """How long after its start a job is looked at for what could not be saved."""

    group_wait_s: float = 30.0
    """How long pods of a group that are to be saved wait for all to be ready, and for all to stand still."""

    group_gather_s: float = 900.0
    """How long pods of a group that are to be resumed wait for the others; then all start from the beginning."""

    group_silence_s: float = 30.0
    """Without a sign of life from an agent for so long, the other pods of a group are not saved with its one."""

    spare_s: float = 120.0
    """How long after a notice's deadline a saved job stays stopped before it runs on: the machine was spared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings:
    """How `crikpy controller` behaves."""

    namespace: str = "crikpy-system"
    """Where the controller's Lease, Secret and Service are."""

    identity: str = ""
    """Name of this replica; the manifests take the pod's name, else it is the host's."""

    address: str = ""
    """Where the webhook, /healthz, /readyz and /metrics are served; empty is all of IPv4 and IPv6."""

    webhook_port: int = 9443
    """Port of the webhook, TLS."""

    port: int = 9478
    """Port of /healthz, /readyz and /metrics."""

    service: str = "crikpy-webhook"
    """Name of the webhook's Service, for which its certificate is made."""

    webhook_name: str = "crikpy-webhook"
    """Name of the MutatingWebhookConfiguration and the ValidatingWebhookConfiguration whose caBundle is kept."""

    page_port: int = 0
    """Port of the status page, TLS; 0 serves none."""

    page_service: str = "crikpy-page"
    """Name of the status page's Service, which the certificate is for as well."""

    page_login_s: float = 28800.0
    """How long a login by the status page's form lasts, as long as the token is good."""

    certificate_days: float = 90.0
    """Life of the webhook's certificate; it is replaced after two thirds of it."""

    launcher_image: str = "ghcr.io/crikpy/launcher:0.1.0"
    """Image that holds the launcher."""

    launcher_pull_policy: str = ""
    """imagePullPolicy of the init container; empty leaves it to Kubernetes."""

    grace_period_s: int = 120
    """Least terminationGracePeriodSeconds of an opted-in pod: a save must fit into it."""

    agent_wait_s: int = 30
    """After this long without an agent the launcher starts the job by itself."""

    margin_s: float = 10.0
    """Kept between an order's deadline and the machine's end, for the eviction and the replacement."""

    order_ttl_s: float = 86400.0
    """How long a Checkpoint object in a final phase is kept."""

    spare_s: float = 300.0
    """How long after a notice's deadline a node that still reports is taken for spared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How every command logs (docs/logs.md); options count more."""

    format: str = ""
    """`text` or `json`; empty is JSON for agent and controller unless at a terminal, else as `--output`."""

    level: str = "info"
    """Of the least important records: `debug`, `info`, `warning` or `error`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All groups."""

    store: StoreSettings = field(default_factory=StoreSettings)
    criu: CriuSettings = field(default_factory=CriuSettings)
    gpu: GpuSettings = field(default_factory=GpuSettings)
    notices: NoticeSettings = field(default_factory=NoticeSettings)
    sources: SourceSettings = field(default_factory=SourceSettings)
    signals: SignalSettings = field(default_factory=SignalSettings)
    run: RunSettings = field(default_factory=RunSettings)
    kube: KubeSettings = field(default_factory=KubeSettings)
    agent: AgentSettings = field(default_factory=AgentSettings)
    controller: ControllerSettings = field(default_factory=ControllerSettings)
    log: LogSettings = field(default_factory=LogSettings)


def from_env(environ: Mapping[str, str]) -> Settings:
    """Read `CRIKPY_<GROUP>_<FIELD>` variables, such as CRIKPY_STORE_ENDPOINT.

    Raises:
        SettingsError: naming every variable with a bad value, and every unknown variable of ours.
    """
    return environment.read(Settings, environ)
