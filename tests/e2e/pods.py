"""Pods under observation: their logs as they come, who replaced them, and what they counted."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from crikpy import names
from tests.e2e import leftovers
from tests.e2e.kubectl import Json, Kubectl, settle, wait_for
from tests.e2e.workloads import Counted, read_counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One pod whose log is being written down.

    Attributes:
        namespace: its namespace.
        name: its name.
        uid: its UID.
        node: where it runs.
        log: file with the log so far.
    """

    namespace: str
    name: str
    uid: str
    node: str
    log: Path

    def counts(self) -> list[Counted]:
        """Return what it has counted so far."""
        return read_counts(self.log.read_text(errors="replace"))


def running(pod: Json) -> bool:
    """Say whether a pod runs and is not on its way out."""
    return pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def ready(pod: Json) -> bool:
    """Say whether a pod runs and answers its probes."""
    conditions = pod["status"].get("conditions") or ()
    return running(pod) and any(found["type"] == "Ready" and found["status"] == "True" for found in conditions)


class Namespace:
    """One namespace of the tests, and what it holds."""

    def __init__(self, kubectl: Kubectl, name: str, folder: Path) -> None:
        self.kubectl = kubectl
        self.name = name
        self._folder = folder
        self._stack = contextlib.ExitStack()

    def apply(self, *objects: Json) -> str:
        """Apply objects; return what was said, warnings included."""
        return self.kubectl.apply(*objects, namespace=self.name)

    def pods(self, app: str) -> list[Json]:
        """Return the pods of a workload."""
        return self.kubectl.list("pods", self.name, selector=f"app={app}")

    def watch(self, app: str, *, number: int = 1, container: str = "main", at_least: int = 4) -> list[Watched]:
        """Wait until a workload's pods count, and write down their logs from their beginning on."""

        def all_running() -> list[Json] | None:
            found = [pod for pod in self.pods(app) if running(pod)]
            return found if len(found) >= number else None

        found = wait_for(f"{number} running pods of {app}", all_running)
        watched = [self._watch(pod, container) for pod in found]
        for pod in watched:
            wait_for(f"{pod.name} to count", lambda pod=pod: len(pod.counts()) >= at_least)  # type: ignore[misc]
        return watched

    def _watch(self, pod: Json, container: str) -> Watched:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        log = self._folder / f"{name}-{uid[:8]}-{container}.log"
        self._stack.enter_context(self.kubectl.following(self.name, name, log, container=container))
        return Watched(namespace=self.name, name=name, uid=uid, node=pod["spec"]["nodeName"], log=log)

    def log(self, pod: str, *, container: str = "main") -> str:
        """Return a pod's log so far."""
        return self.kubectl("logs", pod, "-n", self.name, "-c", container)

    def counts(self, pod: str, *, container: str = "main") -> list[Counted]:
        """Return what a pod has counted so far."""
        return read_counts(self.log(pod, container=container))

    def replacement(self, app: str, of: Watched, *, within_s: float = 120, container: str = "main") -> Json:
        """Wait for the pod that goes on with another's count, and return it."""

        def look() -> Json | None:
            life = of.counts()[0].life
            for pod in self.pods(app):
                if pod["metadata"]["uid"] == of.uid or pod["status"].get("phase") == "Pending":
                    continue
                if any(count.life == life for count in self.counts(pod["metadata"]["name"], container=container)):
                    return pod
            return None

        return wait_for(f"a pod of {app} that goes on with the count of {of.name}", look, within_s=within_s)

    def order(self, pod: Watched) -> None:
        """Order a checkpoint by hand, that leaves the pod running."""
        raw = self.kubectl.get("pod", pod.name, self.name)
        spec = {
            "podName": pod.name,
            "podUID": pod.uid,
            "nodeName": pod.node,
            "containers": raw["metadata"]["annotations"][names.INJECTED].split(","),
            "workload": "by-hand",
            "trigger": "Manual",
            "leaveRunning": True,
        }
        order = {
            "apiVersion": names.API_VERSION,
            "kind": "Checkpoint",
            "metadata": {"generateName": f"{pod.name}-"},
            "spec": spec,
        }
        self.kubectl("create", "-n", self.name, "-f", "-", stdin=json.dumps(order))

    def evict(self, pod: Watched) -> None:
        """Ask for a pod's eviction, as `kubectl drain` does for every pod of a node."""
        metadata = {"name": pod.name, "namespace": self.name}
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
        path = f"/api/v1/namespaces/{self.name}/pods/{pod.name}/eviction"
        self.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))

    @contextlib.contextmanager
    def executing(self, pod: str, *command: str) -> Iterator[None]:
        """Keep a command running in a pod by `kubectl exec` until the context ends."""
        words = self.kubectl.argv("exec", pod, "-n", self.name, "--", *command)
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            settle(1)
            assert process.poll() is None, f"`{' '.join(command)}` has not begun in {pod}"
            yield
        finally:
            process.kill()
            process.wait()

    def orders_of(self, pod: Watched) -> list[Json]:
        """Return the Checkpoint objects for a pod, the newest last."""
        found = [
            order for order in self.kubectl.list("checkpoints", self.name) if order["spec"]["podUID"] == pod.uid
        ]
        return sorted(found, key=lambda order: str(order["metadata"]["creationTimestamp"]))

    def order_of(self, pod: Watched) -> Json | None:
        """Return the newest Checkpoint object for a pod."""
        found = self.orders_of(pod)
        return found[-1] if found else None

    def await_order(
        self, pod: Watched, accept: Callable[[Json], bool], what: str, *, within_s: float = 90
    ) -> Json:
        """Wait for a Checkpoint object for a pod that is as it should be, and return it."""

        def look() -> Json | None:
            order = self.order_of(pod)
            return order if order and accept(order) else None

        return wait_for(f"a Checkpoint object of {pod.name} that is {what}", look, within_s=within_s)

    def await_phase(self, pod: Watched, *phases: str, within_s: float = 90) -> Json:
        """Wait for a Checkpoint object for a pod in one of some phases, and return it."""
        return self.await_order(
            pod, lambda order: phase_of(order) in phases, " or ".join(phases), within_s=within_s
        )

    def await_event(self, pod: str, reason: str) -> Json:
        """Wait for an event of a pod, and return it."""
        return wait_for(
            f"the event {reason} of {pod}", lambda: self.kubectl.events(self.name, name=pod, reason=reason)
        )[0]

    def close(self) -> None:
        """Stop writing down logs, and remove the namespace with everything in it."""
        self._stack.close()
        self.kubectl("delete", "namespace", self.name, "--ignore-not-found", "--wait=false")


def phase_of(order: Json) -> str:
    """Return the phase of a Checkpoint object; Pending when nobody has begun."""
    return str((order.get("status") or {}).get("phase") or "Pending")


def assert_goes_on(before: list[Counted], after: list[Counted]) -> None:
    """See that a count was taken up where it was left: same life, same process, no step missing or twice."""
    assert before, "nothing was counted before"
    assert after, "nothing was counted afterwards"
    assert {count.life for count in after} == {before[0].life}, "the job was begun anew"
    assert {count.pid for count in after} == {before[0].pid}, "the process has another PID"
    steps = [count.step for count in before] + [count.step for count in after]
    assert steps == list(range(len(steps))), f"steps are missing or were done twice around {before[-1].step}"


@contextlib.contextmanager
def namespace(kubectl: Kubectl, name: str, folder: Path, *, restricted: bool = False) -> Iterator[Namespace]:
    """Make a namespace that is gone when the context ends."""
    labels = {**leftovers.MARK, "pod-security.kubernetes.io/enforce": "restricted" if restricted else "baseline"}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    made = Namespace(kubectl, name, folder)
    try:
        yield made
    finally:
        made.close()
