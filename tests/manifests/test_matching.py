"""Which objects an API server would send to the webhooks: those that ask for it, and no others.

A condition that the API server cannot evaluate is passed over in silence, as the webhooks fail open. So here the
conditions as they are shipped stand in webhooks that fail closed and lead nowhere: what matches is refused.
"""

from __future__ import annotations

import copy
import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from crikpy import names
from tests.e2e.kubectl import Json, Kubectl, KubectlError
from tests.e2e.leftovers import MARK
from tests.manifests.test_overlays import ROOT, _kubectl

pytestmark = pytest.mark.e2e

ASKS = {names.OPT_IN: "true"}
Matches = Callable[[Json], bool]


@pytest.fixture(scope="module")
def matches() -> Iterator[Matches]:
    """Says of an object, without making it, whether it would be sent to a webhook."""
    kubeconfig = os.environ.get("KUBECONFIG") or os.environ.get("CRIKPY_TEST_KUBECONFIG")
    if not kubeconfig:
        pytest.skip("needs a cluster: hack/test starts one, or set KUBECONFIG")
    kubectl = Kubectl(_kubectl(), Path(kubeconfig))
    place = f"crikpy-matching-{secrets.token_hex(3)}"
    made: list[Json] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place, "labels": MARK}}]
    made += [_closed(each, place) for each in _configurations()]
    try:
        kubectl.apply(*made)

        def look(body: Json) -> bool:
            try:
                kubectl("create", "-n", place, "--dry-run=server", "-f", "-", stdin=json.dumps(body))
            except KubectlError as fault:
                assert "failed calling webhook" in str(fault), fault
                return True
            return False

        yield look
    finally:
        objects = [(each["kind"], each["metadata"]["name"]) for each in reversed(made)]
        for kind, name in objects:
            kubectl("delete", kind, name, "--ignore-not-found", "--wait=false")


def _configurations() -> list[Json]:
    objects = yaml.safe_load_all((ROOT / "controller/base/webhooks.yaml").read_text())
    return [each for each in objects if each["kind"].endswith("WebhookConfiguration")]


def _closed(configuration: Json, place: str) -> Json:
    closed = copy.deepcopy(configuration)
    closed["metadata"] = {"name": place, "labels": MARK}
    for webhook in closed["webhooks"]:
        webhook["failurePolicy"] = "Fail"
        webhook["timeoutSeconds"] = 1
        webhook["clientConfig"]["service"] |= {"name": "nobody", "namespace": place}
        webhook["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": place}}
    return closed


def metadata(name: str = "one", annotations: dict[str, str] | None = None) -> Json:
    return {"name": name} if annotations is None else {"name": name, "annotations": annotations}


def pod(annotations: dict[str, str] | None = None) -> Json:
    spec = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "x", "command": ["x"]}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata(annotations=annotations), "spec": spec}


def template(annotations: dict[str, str] | None = None) -> Json:
    found: Json = {"metadata": {"labels": {"app": "one"}}, "spec": pod()["spec"]}
    if annotations is not None:
        found["metadata"]["annotations"] = annotations
    return found


def job(within: dict[str, str] | None = None, own: dict[str, str] | None = None) -> Json:
    body = {"metadata": metadata(annotations=own), "spec": {"template": template(within)}}
    return {"apiVersion": "batch/v1", "kind": "Job", **body}


def cron_job(
    within: dict[str, str] | None = None,
    jobs: dict[str, str] | None = None,
    own: dict[str, str] | None = None,
) -> Json:
    of_jobs: Json = {"spec": {"template": template(within)}}
    if jobs is not None:
        of_jobs["metadata"] = {"annotations": jobs}
    spec = {"schedule": "0 0 1 1 *", "jobTemplate": of_jobs}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata(annotations=own), "spec": spec}


def apps(kind: str, within: dict[str, str] | None = None, own: dict[str, str] | None = None) -> Json:
    inner = template(within)
    inner["spec"] = {**inner["spec"], "restartPolicy": "Always"}
    spec: Json = {"selector": {"matchLabels": {"app": "one"}}, "template": inner}
    if kind == "StatefulSet":
        spec["serviceName"] = "one"
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata(annotations=own), "spec": spec}


@pytest.mark.parametrize(
    "body",
    [
        pod(ASKS),
        pod({names.OPT_IN: "maybe"}),
        job(ASKS),
        job(own=ASKS),
        cron_job(ASKS),
        cron_job(jobs=ASKS),
        cron_job(own=ASKS),
        apps("Deployment", ASKS),
        apps("Deployment", own=ASKS),
        apps("StatefulSet", ASKS),
    ],
    ids=lambda body: body["kind"],
)
def test_what_asks_for_it_is_sent(matches: Matches, body: Json) -> None:
    assert matches(body)


@pytest.mark.parametrize(
    "body",
    [
        pod(),
        pod({names.INTERVAL: "5m"}),
        job(),
        job({"other": "true"}),
        cron_job(),
        apps("Deployment"),
        apps("StatefulSet"),
        apps("DaemonSet", ASKS),
    ],
    ids=lambda body: body["kind"],
)
def test_what_does_not_is_never_sent(matches: Matches, body: Json) -> None:
    assert not matches(body)
