"""The cluster that the end-to-end tests run on: hack/cluster's own, or the one that a kubeconfig leads to.

On hack/cluster's the tests can also cut a node's power and stop the API server; elsewhere such tests are skipped.
Notices are given by a stand-in for the metadata service: at its true address on the nodes of hack/cluster,
elsewhere as a DaemonSet on each node's loopback, with the agent's image.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from crikpy import names
from crikpy.aio.children import Child
from tests.e2e import leftovers
from tests.e2e.kubectl import Json, Kubectl, wait_for
from tests.fakes.imds import tell

ROOT = Path(__file__).resolve().parents[2]
HACK = ROOT / "hack/cluster"
METADATA = "169.254.169.254"


class Cluster:
    """A running cluster.

    Attributes:
        kubectl: kubectl with the administrator's rights.
        own: whether it is hack/cluster's.
        nodes: names of the nodes that pods may use.
    """

    def __init__(self, kubeconfig: Path, *, own: bool) -> None:
        self.kubectl = Kubectl(_find_kubectl(own=own), kubeconfig)
        self.own = own
        found = self.kubectl.list("nodes")
        self.nodes = tuple(node["metadata"]["name"] for node in found if leftovers.takes_pods(node))
        if len(self.nodes) < 2:
            refuse = pytest.fail if own else pytest.skip
            refuse(f"needs two nodes that take pods, and there are: {', '.join(self.nodes) or 'none'}")

    def hack(self, *words: str, timeout: float = 120) -> str:
        """Run hack/cluster; only on its own cluster."""
        self.need_own(" ".join(words))
        done = subprocess.run([str(HACK), *words], capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, f"hack/cluster {' '.join(words)}: {done.stderr[-2000:]}"
        return done.stdout

    def need_own(self, what: str) -> None:
        """Skip a test that only hack/cluster's own cluster can stand."""
        if not self.own:
            pytest.skip(f"needs hack/cluster: {what}")

    def instance(self, node: str) -> str:
        """Return the EC2 instance id of a node, or one that stands for it."""
        provider = self.kubectl.get("node", node)["spec"].get("providerID", "")
        return provider.rpartition("/")[2] if provider.startswith("aws:") else "i-0123456789abcdef0"

    @contextlib.contextmanager
    def api_server_down(self) -> Iterator[None]:
        """Stop the API server until the context ends.

        After more than 12 s the nodes count as lost for a while, until their kubelets have reported again.
        """
        self.hack("apiserver", "stop")
        try:
            yield
        finally:
            self.hack("apiserver", "start")
            wait_for("the API server", lambda: self.kubectl("get", "--raw", "/readyz"))
            wait_for("the nodes", lambda: all(self._ready(self.kubectl.get("node", node)) for node in self.nodes))

    @contextlib.contextmanager
    def cordoned(self, *nodes: str) -> Iterator[None]:
        """Keep new pods off some nodes until the context ends."""
        with self.uncordoned_later(*nodes):
            for node in nodes:
                self.kubectl("cordon", node)
            yield

    @contextlib.contextmanager
    def uncordoned_later(self, *nodes: str) -> Iterator[None]:
        """Have some nodes take pods again when the context ends, or when the next run of tests begins."""
        for node in nodes:
            self.kubectl("annotate", "node", node, f"{leftovers.CORDONED}=yes", "--overwrite")
        try:
            yield
        finally:
            for node in nodes:
                self.kubectl("uncordon", node)
                self.kubectl("annotate", "node", node, f"{leftovers.CORDONED}-")

    def healthy(self, node: str) -> bool:
        """Say whether a node is ready, takes pods and bears no taint."""
        found = self.kubectl.get("node", node)
        return self._ready(found) and not found["spec"].get("unschedulable") and not found["spec"].get("taints")

    @staticmethod
    def _ready(node: Json) -> bool:
        found = node["status"]["conditions"]
        return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in found)


class LocalMetadata:
    """A metadata service for each node of hack/cluster, in the node's network and outside of its power supply."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self._children: list[Child] = []

    endpoint = f"http://{METADATA}"

    def start(self) -> None:
        """Serve on every node."""
        for node in self._cluster.nodes:
            serve = [".venv/bin/python", "-m", "tests.fakes.imds", "serve", "--address", METADATA, "--port", "80"]
            serve += ["--instance", self._cluster.instance(node), "--control", str(self._socket(node))]
            script = f"ip address replace {METADATA}/32 dev lo; cd {ROOT}; exec {' '.join(serve)}"
            # Killed with us, however we end: the next run wants to listen there.
            dying = ("setpriv", "--pdeathsig", "KILL", "--")
            self._children.append(Child([*dying, str(HACK), "exec", "--net", node, "sh", "-c", script]))
        for node in self._cluster.nodes:
            wait_for(f"the metadata service of {node}", self._socket(node).exists)

    def stop(self) -> None:
        """End all of it."""
        for child in self._children:
            child.kill_tree()

    def tell(self, node: str, order: Json) -> Any:
        """Give an order to a node's service."""
        return tell(self._socket(node), order)

    def _socket(self, node: str) -> Path:
        return self._folder / f"{node}.sock"


class PodMetadata:
    """The same as pods with the agent's image, for clusters whose nodes are out of our reach."""

    endpoint = "http://127.0.0.1:1338"

    def __init__(self, cluster: Cluster, namespace: str, image: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._image = image

    def start(self) -> None:
        """Serve on every node."""
        labels = {"pod-security.kubernetes.io/enforce": "privileged", **leftovers.MARK}
        self._cluster.kubectl.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._namespace, "labels": labels}}
        )
        self._cluster.kubectl.apply(self._program(), self._daemon_set(), namespace=self._namespace)
        self._cluster.kubectl("rollout", "status", "daemonset/imds", "-n", self._namespace, "--timeout=80s")

    def stop(self) -> None:
        """End all of it."""
        self._cluster.kubectl("delete", "namespace", self._namespace, "--ignore-not-found", "--wait=false")

    def _program(self) -> Json:
        text = (ROOT / "tests/fakes/imds.py").read_text()
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "imds"}, "data": {"imds.py": text}}

    def _daemon_set(self) -> Json:
        serve = ["python3", "/fake/imds.py", "serve", "--port", "1338", "--control", "/run/fake/imds.sock"]
        container = {
            "name": "imds",
            "image": self._image,
            "command": [*serve, "--instance", "i-$(NODE)"],
            "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
            "volumeMounts": [
                {"name": "fake", "mountPath": "/fake"},
                {"name": "run", "mountPath": "/run/fake"},
            ],
        }
        pod = {
            "hostNetwork": True,
            "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            "volumes": [{"name": "fake", "configMap": {"name": "imds"}}, {"name": "run", "emptyDir": {}}],
        }
        labels = {"app": "imds"}
        return {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "imds"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }

    def tell(self, node: str, order: Json) -> Any:
        """Give an order to a node's service."""
        for pod in self._cluster.kubectl.list("pods", self._namespace, selector="app=imds"):
            if pod["spec"]["nodeName"] == node:
                words = ("python3", "/fake/imds.py", "tell", "/run/fake/imds.sock", json.dumps(order))
                name = pod["metadata"]["name"]
                return json.loads(self._cluster.kubectl("exec", "-n", self._namespace, name, "--", *words))
        raise AssertionError(f"no metadata service on {node}")


Metadata = LocalMetadata | PodMetadata


class Notices:
    """Gives and withdraws notices, and sees that none is left over."""

    def __init__(self, cluster: Cluster, metadata: Metadata) -> None:
        self._cluster = cluster
        self._metadata = metadata

    def spot(self, node: str, *, in_s: float = 120) -> None:
        """Announce an interruption."""
        self._metadata.tell(node, {"do": "spot", "action": "terminate", "in_s": in_s})

    def rebalance(self, node: str) -> None:
        """Recommend a rebalance."""
        self._metadata.tell(node, {"do": "rebalance"})

    def withdraw(self, node: str) -> None:
        """Take back what was announced."""
        for path in ("meta-data/spot/instance-action", "meta-data/events/recommendations/rebalance"):
            self._metadata.tell(node, {"do": "put", "path": path, "body": None})
        self._cluster.kubectl("annotate", "node", node, f"{names.REPORTED}-")

    def withdraw_all(self, nodes: Sequence[str]) -> None:
        """Take back everything, and wait until the nodes take pods again."""
        for node in nodes:
            self.withdraw(node)
        wait_for("nodes without taints", lambda: all(self._cluster.healthy(node) for node in nodes))


def _find_kubectl(*, own: bool) -> str:
    """Return kubectl of hack/cluster's version for its own cluster, and the user's for the user's."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    built = shutil.which(cache / "crikpy/cluster/bin/kubectl")
    users = shutil.which("kubectl")
    found = (built or users) if own else (users or built)
    if found is None:
        pytest.fail("needs kubectl on PATH")
    return found


def find_cluster() -> Cluster:
    """Return the cluster to test on; skips when there is none.

    KUBECONFIG leads to one of the user's; CRIKPY_TEST_KUBECONFIG is set by hack/test to that of hack/cluster.
    """
    own = os.environ.get("CRIKPY_TEST_KUBECONFIG")
    path = os.environ.get("KUBECONFIG") or own
    if not path:
        pytest.skip("needs a cluster: hack/test starts one, or set KUBECONFIG")
    return Cluster(Path(path), own=own is not None and path == own)
