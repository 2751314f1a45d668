"""The demo's story on a real Kubernetes: a Job on one of two nodes, a spot interruption, its replacement pod.

Run by hack/demo --kubernetes, which has started hack/cluster and installed crikpy on it. Standard output tells the
story, with what `kubectl get ckpt -w` and `kubectl logs -f` print; its last line is JSON, as the plain demo's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crikpy.model.workload import Workload
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from machines import HERE, DemoError
from proof import Findings, draw
from tests.e2e.cluster import Cluster, Notices
from tests.e2e.installing import AGENT_IMAGE, Installation
from tests.e2e.kubectl import Json, KubectlError, wait_for
from tests.e2e.workloads import job, template

STEPS, NOTICE_AFTER, PACE_S = 240, 100, 0.05
WARNING_S = 120
PATIENCE_S = 180.0
SPACE = "crikpy-demo"
PICTURE = Path("demo-losses.png")
DIARY = "diary:"
TRAINING = f"python3 /srv/job/train.py --steps {STEPS} --pace {PACE_S} && echo {DIARY} && cat diary.jsonl"


class Log:
    """One pod's log as it comes, each line with the time at which it came.

    Attributes:
        pod: the pod's name.
        steps: what the job told about its steps in this pod.
        diary: what the file held at the job's end.
    """

    def __init__(self, cluster: Cluster, pod: str, on_step: Any) -> None:
        self.pod = pod
        self.steps: list[Mapping[str, Any]] = []
        self.diary: list[Mapping[str, Any]] = []
        self.first_step_at = self.last_step_at = 0.0
        self._on_step = on_step
        words = cluster.kubectl.argv("logs", "-f", pod, "-n", SPACE)
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait(self, patience_s: float) -> None:
        """Wait for the log's end."""
        self._thread.join(patience_s)
        if self._thread.is_alive():
            raise DemoError(f"pod {self.pod} has not ended within {patience_s:.0f} s")

    def close(self) -> None:
        """Stop reading."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        into = self.steps
        for line in self._process.stdout:
            if line.strip() == DIARY.encode():
                into = self.diary
                continue
            try:
                facts = json.loads(line)
            except ValueError:
                continue
            into.append(facts)
            if into is self.steps:
                self.last_step_at = time.monotonic()
                self.first_step_at = self.first_step_at or self.last_step_at
                self._on_step(self, facts["step"])


class Story:
    """What happens on the cluster; use `play`."""

    def __init__(self, cluster: Cluster, notices: Notices, store: ObjectStore, findings: Findings) -> None:
        self._cluster = cluster
        self._kubectl = cluster.kubectl
        self._notices = notices
        self._store = store
        self._findings = findings
        self._notice_at: float | None = None
        self._notice_time = datetime.now(UTC)
        self._node = cluster.nodes[0]
        self._noticed = threading.Event()

    def play(self) -> None:
        """Tell the whole story and put into the findings what comes out.

        Raises:
            DemoError: it could not be told to its end.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._namespace())
            with self._cluster.cordoned(*self._cluster.nodes[1:]):
                self._kubectl.apply(_program(), _training("demo"), namespace=SPACE)
                pod = wait_for("the job's pod", lambda: self._running("demo", but=""), within_s=PATIENCE_S)
            name = pod["metadata"]["name"]
            self._tell(f"pod {name} runs on {self._node}; kubectl logs -f {name} shows its steps")
            first = Log(self._cluster, name, self._on_step)
            stack.callback(first.close)
            stack.callback(self._notices.withdraw_all, [self._node])
            stack.enter_context(self._watching())
            if not self._noticed.wait(PATIENCE_S):
                raise DemoError(f"the job has not taken {NOTICE_AFTER} steps within {PATIENCE_S:.0f} s")
            after = wait_for("the replacement pod", lambda: self._running("demo", but=name), within_s=PATIENCE_S)
            seen_at = time.monotonic()
            self._tell(f"pod {after['metadata']['name']} replaces it on {after['spec']['nodeName']}")
            second = Log(self._cluster, after["metadata"]["name"], self._on_step)
            stack.callback(second.close)
            second.wait(PATIENCE_S)
            self._await_success()
            self._findings.resume_s = second.first_step_at - seen_at
            self._measure(pod)
            self._judge(first, second)

    def _on_step(self, log: Log, step: int) -> None:
        if self._notice_at is None and step == NOTICE_AFTER:
            self._notice_at, self._notice_time = time.monotonic(), datetime.now(UTC)
            self._notices.spot(self._node, in_s=WARNING_S)
            self._tell(f"EC2 takes {self._node} away in {WARNING_S} s (after step {NOTICE_AFTER})")
            self._noticed.set()
        elif self._notice_at is not None and len(log.steps) == 1:
            self._tell(f"{log.pod} takes step {step}, the first here")

    def _running(self, app: str, *, but: str) -> Json | None:
        for pod in self._kubectl.list("pods", SPACE, selector=f"app={app}"):
            if pod["metadata"]["name"] != but and pod["status"].get("phase") == "Failed":
                said = self._kubectl("logs", pod["metadata"]["name"], "-n", SPACE, "--tail=5")
                raise DemoError(f"pod {pod['metadata']['name']} has failed: {said.strip()}")
            if pod["metadata"]["name"] != but and pod["status"].get("phase") in ("Running", "Succeeded"):
                return pod
        return None

    def _await_success(self) -> None:
        def verdict() -> str | None:
            conditions = self._kubectl.get("job", "demo", SPACE)["status"].get("conditions") or ()
            true = [one["type"] for one in conditions if one["status"] == "True"]
            return next((kind for kind in true if kind in ("Complete", "Failed")), None)

        if wait_for("the Job's end", verdict, within_s=PATIENCE_S) != "Complete":
            raise DemoError("the Job has failed")
        failed = self._kubectl.get("job", "demo", SPACE)["status"].get("failed", 0)
        self._tell(f"the Job is complete; pods that it counts as failed: {failed}")

    def _measure(self, pod: Json) -> None:
        """Take the rest from the checkpoint itself."""
        orders = self._kubectl.list("checkpoints", SPACE)
        order = next(order for order in orders if order["spec"]["podUID"] == pod["metadata"]["uid"])
        workload = Workload(
            cluster=Installation.CLUSTER, namespace=SPACE, name=f"{order['spec']['workload']}.main"
        )
        manifest = Checkpoints(self._store, workload).manifest(order["status"]["checkpoint"])
        committed = datetime.fromisoformat(manifest.created)
        self._findings.notice_to_committed_s = (committed - self._notice_time).total_seconds()
        self._findings.notice_to_frozen_s = self._findings.notice_to_committed_s - manifest.frozen_s
        self._findings.processes = len(manifest.job.processes)
        self._findings.memory_bytes = manifest.sizes.image_bytes
        self._findings.stored_bytes = manifest.sizes.stored_bytes

    def _judge(self, first: Log, second: Log) -> None:
        expected = self._undisturbed()
        self._findings.compare(first.steps, second.steps, expected, second.diary)
        if not (first.steps and second.steps):
            raise DemoError("the job has not run on both nodes")
        stood_still_s = self._findings.stood_still_s = second.first_step_at - first.last_step_at
        draw(first.steps, second.steps, expected, stood_still_s, PICTURE)

    def _undisturbed(self) -> list[Mapping[str, Any]]:
        """Run the same program where nothing happens to it, not opted in."""
        self._kubectl.apply(_training("undisturbed", opted_in=False), namespace=SPACE)
        pod = wait_for("the undisturbed pod", lambda: self._running("undisturbed", but=""), within_s=PATIENCE_S)
        log = Log(self._cluster, pod["metadata"]["name"], lambda log, step: None)
        try:
            log.wait(PATIENCE_S)
        finally:
            log.close()
        return log.steps

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        """Show what `kubectl get ckpt -w` prints until the context ends."""
        process = subprocess.Popen(
            self._kubectl.argv("get", "ckpt", "-w", "-n", SPACE), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        lines = process.stdout
        reader = threading.Thread(
            target=lambda: [self._tell(f"kubectl get ckpt -w │ {line.decode().rstrip()}") for line in lines],
            daemon=True,
        )
        reader.start()
        try:
            yield
        finally:
            process.kill()
            process.wait()
            reader.join(5)

    @contextlib.contextmanager
    def _namespace(self) -> Iterator[None]:
        labels = {"pod-security.kubernetes.io/enforce": "baseline"}
        self._kubectl("delete", "namespace", SPACE, "--ignore-not-found")
        self._kubectl.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE, "labels": labels}}
        )
        try:
            yield
        finally:
            self._kubectl("delete", "namespace", SPACE, "--ignore-not-found", "--wait=false")

    def _tell(self, what: str) -> None:
        since = "" if self._notice_at is None else f"{time.monotonic() - self._notice_at:+.2f} s"
        print(f"{since:>10}  {what}", flush=True)


def _program() -> Json:
    files = {name: (HERE / name).read_text() for name in ("train.py", "diary.py")}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "program"}, "data": files}


def _training(app: str, *, opted_in: bool = True) -> Json:
    """Return the Job: one thread for each process, so that sums have one order."""
    single = [{"name": name, "value": "1"} for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")]
    container = {
        "name": "main",
        "image": AGENT_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", TRAINING],
        "workingDir": "/data",
        "env": [*single, {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}],
        "volumeMounts": [
            {"name": "program", "mountPath": "/srv/job"},
            {"name": "work", "mountPath": "/data"},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
        ],
    }
    volumes = [
        {"name": "program", "configMap": {"name": "program"}},
        {"name": "work", "emptyDir": {}},
        # A container's own /dev/shm holds 64 MiB, too little for the workers' shared arrays.
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}},
    ]
    return job(app, template(container, app=app, opted_in=opted_in, volumes=volumes))


def main() -> int:
    """Play the demo; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    arguments = parser.parse_args()
    findings, status = Findings(job="numpy"), 1
    try:
        cluster = Cluster(arguments.kubeconfig, own=True)
        print(f"numpy training, two pool workers, {STEPS} steps; nodes {', '.join(cluster.nodes)}", flush=True)
        with tempfile.TemporaryDirectory(prefix="crikpy-demo-") as work, Installation(cluster, Path(work)) as made:
            Story(cluster, made.notices, made.open_store(), findings).play()
        status = 0 if findings.survived else 1
        print(f"{findings.sentence()}\nthe curve across the move: {PICTURE.resolve()}", flush=True)
    except (DemoError, KubectlError, AssertionError, OSError, subprocess.SubprocessError) as fault:
        print(f"demo: {fault}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr, flush=True)
        status = 130
    print(findings.line(), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
