"""What an agent's token is good for: its own node, and nothing that concerns another's."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from functools import partial
from http import HTTPStatus

import pytest

from crikpy import names
from tests.e2e.cluster import Cluster
from tests.e2e.kubectl import Json, Kubectl, wait_for
from tests.e2e.pods import Namespace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SYSTEM = "crikpy-system"
AGENT = "crikpy-agent"
ID = "20250131T120000Z-00000000"


class AgentApi:
    """The API server as who has a token of the agents' account sees it: kubectl would ask for more than to patch.

    Attributes:
        refused: what was said of the last request, if it was refused.
    """

    def __init__(self, kubectl: Kubectl, *bound: str) -> None:
        self._token = kubectl("create", "token", AGENT, "-n", SYSTEM, *bound).strip()
        config = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json"))
        cluster = config["clusters"][0]["cluster"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)
        self._server = cluster["server"]
        self.refused = ""

    @classmethod
    def of(cls, kubectl: Kubectl, node: str) -> AgentApi:
        """Return it with the token that the agent of a node has."""
        pods = kubectl.list("pods", SYSTEM, selector=f"app={AGENT}")
        (pod,) = [each["metadata"]["name"] for each in pods if each["spec"]["nodeName"] == node]
        return cls(kubectl, "--bound-object-kind=Pod", f"--bound-object-name={pod}")

    def patches(self, path: str, change: Json) -> bool:
        """Change an object by a merge patch; say whether that was allowed."""
        request = urllib.request.Request(f"{self._server}{path}", json.dumps(change).encode(), method="PATCH")
        request.add_header("Authorization", f"Bearer {self._token}")
        request.add_header("Content-Type", "application/merge-patch+json")
        try:
            with urllib.request.urlopen(request, context=self._context, timeout=30):
                return True
        except urllib.error.HTTPError as refused:
            assert refused.code == HTTPStatus.FORBIDDEN, refused.read()
            self.refused = json.loads(refused.read())["message"]
            return False

    def marks(self, node: str) -> bool:
        """Annotate a node and take the annotation off again; say whether that was allowed."""
        path = f"/api/v1/nodes/{node}"
        notes = [{"metadata": {"annotations": {"crikpy.io/test": value}}} for value in ("yes", None)]
        return all(self.patches(path, note) for note in notes)

    def tells(self, order: Json, **status: str) -> bool:
        """Say what has become of an order; say whether that was allowed."""
        meta = order["metadata"]
        path = f"/apis/{names.API_VERSION}/namespaces/{meta['namespace']}/checkpoints/{meta['name']}/status"
        return self.patches(path, {"status": status})


def order_at(place: Namespace, node: str) -> Json:
    """Make an order for a pod that nobody has, at a node."""
    order = {
        "apiVersion": names.API_VERSION,
        "kind": "Checkpoint",
        "metadata": {"generateName": "nobody-"},
        "spec": {
            "podName": "nobody",
            "podUID": "00000000-0000-0000-0000-000000000000",
            "nodeName": node,
            "containers": ["main"],
            "workload": "nobody",
            "trigger": "Manual",
            "leaveRunning": True,
        },
    }
    made: Json = json.loads(
        place.kubectl("create", "-n", place.name, "-f", "-", "-o", "json", stdin=json.dumps(order))
    )
    return made


def test_the_policies_make_sense_to_the_api_server(installed: Cluster) -> None:
    policies = installed.kubectl.list("validatingadmissionpolicies", selector=f"app={AGENT}")
    assert {policy["metadata"]["name"] for policy in policies} == {
        "crikpy-agent-own-node",
        "crikpy-agent-own-orders",
    }
    for policy in policies:
        status = wait_for("its types to be checked", partial(checked, installed, policy["metadata"]["name"]))
        assert "expressionWarnings" not in status.get("typeChecking", {}), status


def checked(cluster: Cluster, name: str) -> Json | None:
    """Return what the API server thinks of a policy's expressions, once it has looked."""
    status: Json = cluster.kubectl.get("validatingadmissionpolicy", name).get("status", {})
    return status if "observedGeneration" in status else None


def test_an_agent_marks_its_own_node_and_no_other(installed: Cluster) -> None:
    own, other = installed.nodes[:2]
    agent = AgentApi.of(installed.kubectl, own)
    assert agent.marks(own)
    assert not agent.marks(other)
    assert f"the agent of {own} may not change node {other}" in agent.refused
    assert not agent.patches(f"/api/v1/nodes/{other}/status", {"status": {"phase": "Terminated"}})
    assert f"may not change node {other}" in agent.refused


def test_an_agent_speaks_of_saves_on_its_own_node_only(installed: Cluster, place: Namespace) -> None:
    own, other = installed.nodes[:2]
    agent, others = AgentApi.of(installed.kubectl, own), AgentApi.of(installed.kubectl, other)
    order = order_at(place, other)
    assert not agent.tells(order, phase="Complete", checkpoint=ID)
    assert f"the agent of {own} may not say what is saved on {other}" in agent.refused
    # What the agent of the node says, the agent of another to which the job moves may go on with.
    assert others.tells(order, phase="Complete", checkpoint=ID)
    assert agent.tells(order, phase="Restoring")
    assert not agent.tells(order_at(place, other), phase="Failed", reason="DumpFailed")
    assert "may not say" in agent.refused


def test_an_agent_says_that_the_store_is_cleared_only_where_it_was_asked_to(
    installed: Cluster, place: Namespace
) -> None:
    own, other = installed.nodes[:2]
    agent, others = AgentApi.of(installed.kubectl, own), AgentApi.of(installed.kubectl, other)
    order = order_at(place, other)
    name = order["metadata"]["name"]
    # A finalizer of somebody else's keeps the object until the test is over.
    kept = {"metadata": {"finalizers": ["crikpy.test/kept"], "labels": {names.LABEL_DISCARD_ON: own}}}
    place.kubectl("patch", "checkpoint", name, "-n", place.name, "--type=merge", "-p", json.dumps(kept))
    try:
        assert others.tells(order, phase="Failed", reason="RestoreFailed", checkpoint=ID)
        cleared = {"phase": "Failed", "checkpoint": ID, "discardedTime": "2026-01-01T00:00:00Z"}
        assert not agent.tells(order, **cleared), "nobody has asked for its deletion"
        place.kubectl("delete", "checkpoint", name, "-n", place.name, "--wait=false")
        assert agent.tells(order, **cleared)
    finally:
        free = json.dumps({"metadata": {"finalizers": None}})
        place.kubectl("patch", "checkpoint", name, "-n", place.name, "--type=merge", "-p", free)


def test_a_token_that_is_no_pods_is_good_for_nothing_of_the_kind(installed: Cluster) -> None:
    agent = AgentApi(installed.kubectl)
    assert not agent.marks(installed.nodes[0])
    assert "must use the token of its own pod" in agent.refused
