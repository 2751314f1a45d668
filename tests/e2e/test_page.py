"""The status page on a real cluster: reached as its users do, judged by the real API server, about a real move."""

from __future__ import annotations

import base64
import contextlib
import re
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.cluster import Cluster, Notices
from tests.e2e.installing import SYSTEM
from tests.e2e.kubectl import Json, wait_for
from tests.e2e.pods import Namespace
from tests.e2e.workloads import counting, job, template

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@dataclass(frozen=True, kw_only=True)
class Door:
    """A forwarded port behind which the page is.

    Attributes:
        url: of the page.
        trusting: the certificate's authority, as the webhook's configuration has it.
    """

    url: str
    trusting: ssl.SSLContext

    def ask(self, where: str = "", *, token: str = "") -> tuple[int, str]:
        """Return status and text."""
        asked = urllib.request.Request(self.url + where)
        if token:
            asked.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(asked, timeout=20, context=self.trusting) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()


@pytest.fixture
def door(installed: Cluster) -> Iterator[Door]:
    """Forward a port to the page, as docs/status-page.md says."""
    kubectl = installed.kubectl
    webhook = kubectl.get("mutatingwebhookconfiguration", "crikpy-webhook")["webhooks"][0]
    trusting = ssl.create_default_context(cadata=base64.b64decode(webhook["clientConfig"]["caBundle"]).decode())
    command = kubectl.argv("-n", SYSTEM, "port-forward", "service/crikpy-page", ":443")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forwarding:
        try:
            assert forwarding.stdout is not None
            found = re.search(r"127\.0\.0\.1:(\d+)", forwarding.stdout.readline())
            assert found is not None, "kubectl forwards no port"
            yield Door(url=f"https://localhost:{found[1]}/", trusting=trusting)
        finally:
            forwarding.terminate()


@contextlib.contextmanager
def viewer(place: Namespace, *, bound: bool) -> Iterator[str]:
    """Make a service account that may view its namespace, or nothing, and yield a token of it."""
    account: Json = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": f"viewer-{bound}".lower()}}
    name = account["metadata"]["name"]
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": place.name}],
    }
    place.apply(account, *([binding] if bound else []))
    yield place.kubectl("create", "token", name, "-n", place.name).strip()


def test_a_real_move_is_shown_to_who_may_view_its_namespace(
    installed: Cluster, notices: Notices, place: Namespace, door: Door
) -> None:
    place.apply(job("moved", template(counting(), app="moved")))
    (pod,) = place.watch("moved")
    with viewer(place, bound=True) as token, installed.uncordoned_later(pod.node):
        here = f"?namespace={place.name}"
        status, text = door.ask(here, token=token)
        assert status == 200 and pod.name in text
        assert "of 1 running pods" in text
        try:
            notices.spot(pod.node, in_s=120)
            wait_for("the node on the page", lambda: f'aria-label="{pod.node}"' in door.ask(here, token=token)[1])
            after = place.replacement("moved", pod)
            name = after["metadata"]["name"]
            text = wait_for("the move on the page", lambda: moved(door.ask(here, token=token)[1], name))
        finally:
            notices.withdraw_all(installed.nodes)
    assert f'aria-label="{place.name}/{name}"' in text, "the job is known by the pod that has it now"
    assert text.count('class="bar ') == 2 and text.count('class="link"') == 2, "one job on two nodes"
    assert f"{pod.node} · {pod.name}" in text
    assert "SpotInterruption" in text and "saved and resumed" in text
    assert "in 1 moves" in text, "hours are counted"
    assert "was not recorded" not in text and "left out" not in text, "it is recorded since when the pod worked"


def moved(text: str, name: str) -> str | None:
    """Return the page once it tells that a pod has resumed the job."""
    return text if f"went on as {name}" in text else None


def test_nobody_is_shown_what_he_may_not_list(installed: Cluster, place: Namespace, door: Door) -> None:
    for where in ("", f"?namespace={place.name}", f"?namespace={SYSTEM}"):
        for token in ("", "made.up.token"):
            status, text = door.ask(where, token=token)
            assert status == 401 and "crikpy-controller" not in text
    with viewer(place, bound=True) as token:
        assert door.ask("", token=token)[0] == 403
        assert door.ask(f"?namespace={SYSTEM}", token=token)[0] == 403
    with viewer(place, bound=False) as token:
        assert door.ask(f"?namespace={place.name}", token=token)[0] == 403
    proxied = f"/api/v1/namespaces/{SYSTEM}/services/https:crikpy-page:443/proxy/"
    said = installed.kubectl.said("get", "--raw", proxied)
    assert "Unauthorized" in said or "must be logged in" in said or "401" in said, said
