"""What an agent's token is good for: its own node, and nothing that concerns another's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crikpy import names
from tests.e2e.cluster import Cluster
from tests.e2e.kubectl import Json, Kubectl, KubectlError
from tests.e2e.pods import Namespace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SYSTEM = "crikpy-system"
AGENT = "crikpy-agent"


def with_token(kubectl: Kubectl, folder: Path, *bound: str) -> Kubectl:
    """Return kubectl with a token of the agents' account and nothing else."""
    token = kubectl("create", "token", AGENT, "-n", SYSTEM, *bound).strip()
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    for user in config["users"]:
        user["user"] = {"token": token}
    path = folder / f"agent-{len(list(folder.iterdir()))}.json"
    path.touch(0o600)
    path.write_text(json.dumps(config))
    return kubectl.like(path)


def agent_of(kubectl: Kubectl, node: str, folder: Path) -> Kubectl:
    """Return kubectl with the token that the agent of a node has."""
    (pod,) = [
        each for each in kubectl.list("pods", SYSTEM, selector=f"app={AGENT}") if each["spec"]["nodeName"] == node
    ]
    return with_token(kubectl, folder, "--bound-object-kind=Pod", f"--bound-object-name={pod['metadata']['name']}")


def write_status(kubectl: Kubectl, order: Json, **status: str) -> None:
    """Say what has become of an order."""
    name, namespace = order["metadata"]["name"], order["metadata"]["namespace"]
    body = json.dumps({"status": status})
    kubectl("patch", "checkpoint", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", body)


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


def test_an_agent_marks_its_own_node_and_no_other(installed: Cluster, tmp_path: Path) -> None:
    own, other = installed.nodes[:2]
    agent = agent_of(installed.kubectl, own, tmp_path)
    agent("annotate", "node", own, "crikpy.io/test=yes")
    agent("annotate", "node", own, "crikpy.io/test-")
    with pytest.raises(KubectlError, match=f"the agent of {own} may not change node {other}"):
        agent("annotate", "node", other, "crikpy.io/test=yes")
    with pytest.raises(KubectlError, match="may not change node"):
        agent(
            "patch",
            "node",
            other,
            "--subresource=status",
            "-p",
            '{"status":{"conditions":[{"type":"X","status":"True"}]}}',
        )


def test_an_agent_speaks_of_saves_on_its_own_node_only(
    installed: Cluster, place: Namespace, tmp_path: Path
) -> None:
    own, other = installed.nodes[:2]
    agent = agent_of(installed.kubectl, own, tmp_path)
    order = order_at(place, f"not-{other}")
    with pytest.raises(KubectlError, match=f"the agent of {own} may not say what is saved on not-{other}"):
        write_status(agent, order, phase="Complete", checkpoint="20250131T120000Z-00000000")
    # What the agent of the node says, the agent of another to which the job moves may go on with.
    write_status(installed.kubectl, order, phase="Complete", checkpoint="20250131T120000Z-00000000")
    write_status(agent, order, phase="Restoring")
    with pytest.raises(KubectlError, match="may not say"):
        write_status(agent, order, phase="Dumping")


def test_a_token_that_is_no_pods_is_good_for_nothing_of_the_kind(installed: Cluster, tmp_path: Path) -> None:
    agent = with_token(installed.kubectl, tmp_path)
    with pytest.raises(KubectlError, match="must use the token of its own pod"):
        agent("annotate", "node", installed.nodes[0], "crikpy.io/test=yes")
