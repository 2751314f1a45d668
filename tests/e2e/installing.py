"""crikpy on a cluster, installed from its own manifests as a user would, with a store and a metadata service.

On hack/cluster's cluster the store is an S3 server on this machine, a queue of interruption notices is there, too,
and the images are those of hack/images.
Elsewhere CRIKPY_E2E_STORE names the store (`s3://BUCKET/PREFIX`), the AWS_ variables of this environment open it,
and CRIKPY_E2E_TAG names the images' tag.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType

import pytest

import crikpy
from crikpy import names
from crikpy.settings import StoreSettings, from_env
from crikpy.store.base import ObjectStore
from crikpy.store.opening import open_store
from tests.e2e import leftovers
from tests.e2e.aws import AwsNews
from tests.e2e.cluster import ROOT, Cluster, LocalMetadata, Metadata, Notices, PodMetadata
from tests.e2e.kubectl import Json, wait_for
from tests.e2e.snapshots import Snapshot, snapshot
from tests.fakes.s3_server import S3Server

SYSTEM = "crikpy-system"
HOST_ADDRESS = "10.77.0.254"
"""This machine, as the nodes of hack/cluster see it."""

TAG = os.environ.get("CRIKPY_E2E_TAG", crikpy.__version__)
AGENT_IMAGE = f"ghcr.io/crikpy/agent:{TAG}"
BASE = ROOT / "controller/overlays/s3-compatible"
COMPONENTS = ROOT / "controller/components"
_BUCKET = "crikpy-e2e"
_AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_READY_S = 180


class Installation:
    """crikpy on a cluster while the context lasts.

    Attributes:
        notices: gives notices to nodes.
        news: what AWS says of them by a queue; None where there is none.
        server: the store's server; None where it is somebody else's.
        before: what was on the cluster before.
        manifests: what was applied; it holds secrets.
    """

    CLUSTER = "e2e"
    """Name of the cluster in the store."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self._folder = folder
        self._keys = folder / "keys"
        self._keys.touch(mode=0o600)
        self._keys.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
        self._stack = contextlib.ExitStack()
        self._environment: dict[str, str] = {}
        self._url = self._imds = ""
        self.notices: Notices
        self.news: AwsNews | None = None
        self.server: S3Server | None = None
        self.before: Snapshot
        self.manifests = ""

    def __enter__(self) -> Installation:
        try:
            self._clear()
            self.before = snapshot(self.cluster)
            self._open_store()
            if self.cluster.own:
                self.news = self._stack.enter_context(AwsNews(HOST_ADDRESS))
            metadata = self._metadata()
            self._imds = metadata.endpoint
            self.notices = Notices(self.cluster, metadata)
            self._install(metadata)
        except BaseException:
            print(self.last_words())
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def open_store(self) -> ObjectStore:
        """Return the store that the agents write to, with their keys."""
        return self._opened(replace(self._settings(), key_file=str(self._keys)))

    def open_bucket(self) -> ObjectStore:
        """Return it as whoever has the bucket alone sees it."""
        return self._opened(self._settings())

    def _opened(self, settings: StoreSettings) -> ObjectStore:
        os.environ.update({name: value for name, value in self._environment.items() if name in _AWS})
        return open_store(self._url, settings)

    def saved(self, namespace: str) -> int:
        """Return how many checkpoints the store has of a namespace, whole ones; needs no API server."""
        return sum(key.endswith(f"/{names.MANIFEST}") for key in self.stored(namespace))

    def stored(self, namespace: str) -> list[str]:
        """Return the keys of all that the store has of a namespace; needs no API server."""
        with contextlib.closing(self.open_store()) as store:
            return [found.key for found in store.list(f"{self.CLUSTER}/{namespace}/")]

    def last_words(self) -> str:
        """Return what the agents and controllers said lately, and what became of their pods: for a failed test."""
        said = partial(self.cluster.kubectl.said, "--request-timeout=10s")
        parts = {
            "nodes": said("get", "nodes", "-o", "wide"),
            "pods": said("get", "pods", "-A", "-o", "wide"),
            "checkpoints": said("get", "checkpoints", "-A"),
            "warnings": said("get", "events", "-A", "--field-selector=type=Warning", "--sort-by=.lastTimestamp"),
        }
        for app in ("crikpy-agent", "crikpy-controller"):
            words = ("-n", SYSTEM, "-l", f"app={app}", "--prefix", "--tail=60", "--since=4m")
            parts[app] = said("logs", *words)
        return "\n".join(f"---- {name}\n{text}" for name, text in parts.items())

    def _clear(self) -> None:
        """Remove what a run has left that was killed; what is somebody else's is left alone."""
        found = self.cluster.kubectl.find("namespace", SYSTEM)
        if found and leftovers.LABEL not in (found["metadata"].get("labels") or {}):
            pytest.fail(f"this cluster has a crikpy that is not of these tests: remove namespace {SYSTEM} first")
        leftovers.remove(self.cluster.kubectl)

    def _settings(self) -> StoreSettings:
        ours = {name: value for name, value in self._environment.items() if name.startswith(names.ENV_PREFIX)}
        return from_env(ours).store

    def _open_store(self) -> None:
        if not self.cluster.own:
            self._url = os.environ.get("CRIKPY_E2E_STORE", "")
            if not self._url:
                pytest.skip("needs CRIKPY_E2E_STORE, since this is not hack/cluster's cluster")
            kept = {name: value for name, value in os.environ.items() if name.startswith("CRIKPY_STORE_")}
            self._environment = kept | {name: os.environ[name] for name in _AWS if name in os.environ}
            # Of this run alone: no pod resumes what an earlier run has left, and all of it can be removed.
            self._url = f"{self._url.rstrip('/')}/{self.CLUSTER}-{secrets.token_hex(4)}"
            self._stack.callback(self._empty_store)
            return
        self.server = self._stack.enter_context(S3Server(self._folder / "s3", address=HOST_ADDRESS))
        self.server.create_bucket(_BUCKET)
        self._url, self._environment = f"s3://{_BUCKET}/{self.CLUSTER}", self.server.environment()

    def _metadata(self) -> Metadata:
        if self.cluster.own:
            local = LocalMetadata(self.cluster, self._folder)
            self._stack.callback(local.stop)
            local.start()
            return local
        pods = PodMetadata(self.cluster, "crikpy-e2e-imds", AGENT_IMAGE)
        self._stack.callback(pods.stop)
        pods.start()
        return pods

    def _install(self, metadata: Metadata) -> None:
        kubectl = self.cluster.kubectl
        overlay = self._overlay(metadata)
        manifests = kubectl("kustomize", "--load-restrictor=LoadRestrictionsNone", str(overlay))
        self.manifests = manifests
        self._stack.callback(leftovers.remove, kubectl)
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifests)
        self.await_ready()

    def await_ready(self) -> None:
        """Wait until crikpy is rolled out, and nodes and webhook work."""
        for what in ("daemonset/crikpy-agent", "deployment/crikpy-controller"):
            self.cluster.kubectl(
                "rollout", "status", what, "-n", SYSTEM, f"--timeout={_READY_S}s", timeout=_READY_S + 10
            )
        wait_for("every node to say that it can save jobs", self._nodes_ready)
        wait_for("the webhook's certificate", self._webhook_ready)

    def chart_values(self) -> Json:
        """Return the values with which the chart installs the same; needs the Secrets `make_secrets` makes."""
        environment = {name: value for name, value in self._environment.items() if name.startswith("CRIKPY_")}
        return {
            "cluster": self.CLUSTER,
            "store": {
                "kind": "s3-compatible",
                "url": self._url,
                "endpoint": environment.pop("CRIKPY_STORE_ENDPOINT", "https://s3.amazonaws.com"),
            },
            "sealed": {"enabled": True},
            "image": {"tag": TAG},
            "settings": {**environment, "CRIKPY_NOTICES_IMDS_ENDPOINT": self._imds},
        }

    def make_secrets(self) -> None:
        """Make the namespace, and the Secrets that must be there before the chart is installed."""
        stored = {name: value for name, value in self._environment.items() if name in _AWS}
        found = (ROOT / "controller/base/namespace.yaml").read_text()
        self.cluster.kubectl("apply", "-f", "-", stdin=found)
        self.cluster.kubectl(
            "label", "namespace", SYSTEM, *(f"{name}={value}" for name, value in leftovers.MARK.items())
        )
        self.cluster.kubectl.apply(
            _secret("crikpy-store", stored),
            _secret("crikpy-keys", {"keys": self._keys.read_text()}),
            namespace=SYSTEM,
        )

    def _empty_store(self) -> None:
        with contextlib.closing(self.open_store()) as store:
            for found in list(store.list("")):
                store.delete(found.key)

    def _overlay(self, metadata: Metadata) -> Path:
        """Write what differs from the shipped overlay; secrets go into a file that only root may read."""
        folder = self._folder / "overlay"
        folder.mkdir(mode=0o700)
        config = {
            "CRIKPY_STORE": self._url,
            "CRIKPY_KUBE_CLUSTER": self.CLUSTER,
            "CRIKPY_NOTICES_IMDS_ENDPOINT": metadata.endpoint,
            "CRIKPY_CONTROLLER_LAUNCHER_IMAGE": f"ghcr.io/crikpy/launcher:{TAG}",
            **{name: value for name, value in self._environment.items() if name.startswith("CRIKPY_")},
        }
        secret = {name: value for name, value in self._environment.items() if name in _AWS}
        literals = [f"{name}={value}" for name, value in config.items()]
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(BASE, folder)],
            "components": [os.path.relpath(COMPONENTS / name, folder) for name in ("tidy", "sealed", "page")],
            "secretGenerator": [
                {
                    "name": "crikpy-keys",
                    "namespace": SYSTEM,
                    "literals": [f"keys={self._keys.read_text()}"],
                    "options": {"disableNameSuffixHash": True},
                }
            ],
            "labels": [{"pairs": leftovers.MARK}],
            "images": [{"name": f"ghcr.io/crikpy/{image}", "newTag": TAG} for image in ("agent", "controller")],
            "configMapGenerator": [
                {"name": "crikpy-config", "namespace": SYSTEM, "behavior": "merge", "literals": literals}
            ],
            "patches": [_patch("Secret", "crikpy-store", {"stringData": secret}), *self._controller_patch()],
        }
        path = folder / "kustomization.yaml"
        path.touch(mode=0o600)
        path.write_text(json.dumps(kustomization))
        return folder

    def _controller_patch(self) -> list[Json]:
        """Return what tells the controller of the queue, with credentials that are none."""
        if self.news is None:
            return []
        env = [{"name": name, "value": value} for name, value in self.news.environment.items()]
        pod = {"containers": [{"name": "controller", "env": env}]}
        return [_patch("Deployment", "crikpy-controller", {"spec": {"template": {"spec": pod}}}, group="apps/v1")]

    def _nodes_ready(self) -> bool:
        return all(
            any(
                condition["type"] == names.CONDITION_READY and condition["status"] == "True"
                for condition in self.cluster.kubectl.get("node", node)["status"]["conditions"]
            )
            for node in self.cluster.nodes
        )

    def _webhook_ready(self) -> bool:
        found = self.cluster.kubectl.get("mutatingwebhookconfiguration", "crikpy-webhook")
        return all(webhook["clientConfig"].get("caBundle") for webhook in found["webhooks"])


def _secret(name: str, data: dict[str, str]) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def _patch(kind: str, name: str, change: Json, *, group: str = "v1") -> Json:
    body = {"apiVersion": group, "kind": kind, "metadata": {"name": name, "namespace": SYSTEM}, **change}
    return {"patch": json.dumps(body)}
