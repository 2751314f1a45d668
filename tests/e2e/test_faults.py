"""One part after the other is killed in the middle of a rescue: the job goes on, here or elsewhere.

What was observed is written down for docs/reliability.md, where that is asked for.
"""

from __future__ import annotations

import pytest

from crikpy import names
from crikpy.store.chunks import SEALED_MAGIC
from tests.chaos.recording import record
from tests.e2e.cluster import Cluster, Notices
from tests.e2e.installing import SYSTEM, Installation
from tests.e2e.kubectl import Json, wait_for
from tests.e2e.pods import Namespace, Watched, assert_goes_on, phase_of, running
from tests.e2e.workloads import counting, deployment, job, template

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

LARGE = """
import os, secrets, sys, time
life, last, held = secrets.token_hex(4), int(sys.argv[1]), int(sys.argv[2]) << 20
memory = b"".join(os.urandom(1 << 20) for _ in range(held >> 20))
for step in range(last):
    print(f"life={life} step={step} pid={os.getpid()}", flush=True)
    time.sleep(0.25)
"""
"""Counts as the others do, with so many MiB of random bytes, for a save that takes its time."""

LARGE_MIB = 768
LEASE = "crikpy-controller"


def large(app: str) -> Json:
    """Return a Deployment whose save and whose restore take seconds."""
    container = counting(program=LARGE)
    container["command"].append(str(LARGE_MIB))
    return deployment(app, template(container, app=app), replicas=1)


def kill(cluster: Cluster, pod: str, namespace: str = SYSTEM) -> None:
    """Kill a pod's processes outright; whoever owns the pod makes another one."""
    cluster.kubectl("delete", "pod", pod, "-n", namespace, "--force", "--grace-period=0", "--wait=false")


def save_by_hand(place: Namespace, app: str) -> None:
    """Have a job begin and be saved, and run on."""
    place.apply(job(app, template(app=app)))
    (pod,) = place.watch(app)
    place.order(pod)
    place.await_phase(pod, "Complete")


def agent_on(cluster: Cluster, node: str) -> str:
    """Return the name of the agent's pod on a node."""
    found = cluster.kubectl.list("pods", SYSTEM, selector="app=crikpy-agent")
    return next(str(pod["metadata"]["name"]) for pod in found if pod["spec"]["nodeName"] == node and running(pod))


def controllers(cluster: Cluster) -> tuple[str, str]:
    """Return the names of the controller's pods, the leader's first."""
    found = [
        str(pod["metadata"]["name"])
        for pod in cluster.kubectl.list("pods", SYSTEM, selector="app=crikpy-controller")
        if running(pod)
    ]
    holder = str(cluster.kubectl.get("lease", LEASE, SYSTEM)["spec"]["holderIdentity"])
    leading = [name for name in found if holder.startswith(name)]
    following = [name for name in found if not holder.startswith(name)]
    assert leading, f"{holder} is none of {found}"
    assert following, "there is no second replica"
    return leading[0], following[0]


class Rescue:
    """A job on a node that gets a notice, and what becomes of it while something goes wrong."""

    def __init__(self, cluster: Cluster, notices: Notices, place: Namespace) -> None:
        self.cluster = cluster
        self.place = place
        self._notices = notices
        self.victim, *self.others = cluster.nodes

    def begin(self, app: str) -> Watched:
        """Have a job count on the victim, and give that its notice."""
        with self.cluster.cordoned(*self.others):
            self.place.apply(large(app))
            (pod,) = self.place.watch(app)
        self._notices.spot(self.victim, in_s=150)
        return pod

    def is_moved(self, app: str, pod: Watched) -> Json:
        """See that the job goes on elsewhere, where it was left, and return the pod in which it does."""
        after = self.place.replacement(app, pod, within_s=150)
        assert after["spec"]["nodeName"] != self.victim
        assert_goes_on(pod.counts(), self.place.counts(after["metadata"]["name"]))
        return after

    def end(self) -> None:
        """Take the notice back."""
        self._notices.withdraw_all([self.victim])


@pytest.fixture
def rescue(installed: Cluster, notices: Notices, place: Namespace) -> Rescue:
    return Rescue(installed, notices, place)


def during(place: Namespace, pod: Watched, *phases: str) -> str:
    """Wait until an order for a pod is in one of some phases, looking often, and return which one."""

    def look() -> str:
        order = place.order_of(pod)
        return phase_of(order) if order is not None and phase_of(order) in phases else ""

    return wait_for(" or ".join(phases), look, every_s=0.05)


def test_an_agent_that_is_killed_while_it_saves_costs_nothing_and_its_successor_saves_the_job(
    rescue: Rescue, installed: Cluster, place: Namespace
) -> None:
    agent = agent_on(installed, rescue.victim)
    pod = rescue.begin("orphan")
    try:
        during(place, pod, "Dumping")
        kill(installed, agent)
        rescue.is_moved("orphan", pod)
        record(
            "kubernetes",
            "the agent is killed while it saves",
            "its successor saved the job, which went on elsewhere",
        )
    finally:
        rescue.end()


@pytest.mark.parametrize("which", ["leader", "follower"])
def test_a_controller_that_is_killed_when_a_notice_comes_holds_up_no_rescue(
    rescue: Rescue, installed: Cluster, place: Namespace, which: str
) -> None:
    leader, follower = controllers(installed)
    pod = rescue.begin(f"by-{which}")
    try:
        during(place, pod, "Pending", "Dumping", "Complete")
        kill(installed, leader if which == "leader" else follower)
        rescue.is_moved(f"by-{which}", pod)
        record("kubernetes", f"the controller's {which} is killed during a rescue", "the job went on elsewhere")
        wait_for("two replicas again", lambda: both_ready(installed))
    finally:
        rescue.end()


def both_ready(cluster: Cluster) -> bool:
    """Say whether the controller is whole again."""
    status = cluster.kubectl.get("deployment", "crikpy-controller", SYSTEM)["status"]
    return bool(status.get("readyReplicas", 0) == status["replicas"] and status["replicas"] > 1)


def test_a_store_that_is_killed_while_a_job_is_saved_and_comes_back_costs_nothing(
    installation: Installation, rescue: Rescue, place: Namespace
) -> None:
    if installation.server is None:
        pytest.skip("needs a store of our own, to kill it")
    pod = rescue.begin("stored")
    try:
        during(place, pod, "Dumping")
        installation.server.kill()
        installation.server.restart()
        rescue.is_moved("stored", pod)
        record(
            "kubernetes", "the store's server is killed during a save, and comes back", "the job went on elsewhere"
        )
    finally:
        rescue.end()


def test_a_replacement_that_is_deleted_while_it_resumes_leaves_no_second_copy_and_a_job_that_works(
    rescue: Rescue, installed: Cluster, place: Namespace
) -> None:
    pod = rescue.begin("twice")
    try:
        during(place, pod, "Restoring", "Restored")
        (middle,) = [each for each in place.pods("twice") if each["metadata"]["uid"] != pod.uid]
        kill(installed, middle["metadata"]["name"], place.name)
        last = wait_for("a third pod that counts", lambda: _third(place, pod, middle))
        counts = place.counts(last["metadata"]["name"])
        went_on = counts[0].life == pod.counts()[0].life
        assert went_on or counts[0].step == 0
        outcome = "the next one resumed it" if went_on else "the next one started from its beginning"
        record("kubernetes", "the replacement is deleted while it resumes", outcome)
        alive = [each for each in place.pods("twice") if running(each)]
        assert [each["metadata"]["uid"] for each in alive] == [last["metadata"]["uid"]]
    finally:
        rescue.end()


def _third(place: Namespace, *before: Watched | Json) -> Json | None:
    """Return the pod that is neither of two others, once it counts."""
    known = {each.uid if isinstance(each, Watched) else each["metadata"]["uid"] for each in before}
    for found in place.pods("twice"):
        if found["metadata"]["uid"] not in known and running(found) and place.counts(found["metadata"]["name"]):
            return found
    return None


@pytest.mark.lengthy
def test_a_machine_that_stood_still_and_comes_back_does_not_keep_a_second_copy_of_the_job(
    installed: Cluster, place: Namespace
) -> None:
    installed.need_own("stops every process of a node")
    victim, *others = installed.nodes
    with installed.cordoned(*others):
        place.apply(deployment("asleep", template(app="asleep", annotations={names.INTERVAL: "1m"}), replicas=1))
        (pod,) = place.watch("asleep")
    place.await_phase(pod, "Complete", within_s=150)
    stop_all(installed, victim, "STOP")
    try:
        after = place.replacement("asleep", pod, within_s=180)
        name = after["metadata"]["name"]
        saved = place.counts(name)[0].step
        assert saved > 0
    finally:
        stop_all(installed, victim, "CONT")
        wait_for("the node", lambda: installed.healthy(victim), within_s=120)
    wait_for("one copy", lambda: [each["metadata"]["name"] for each in place.pods("asleep")] == [name])
    before = len(place.counts(name))
    wait_for("more steps of the one that is left", lambda: len(place.counts(name)) > before + 4)
    record(
        "kubernetes",
        "a machine stands still, and comes back after its job was resumed elsewhere",
        "the old copy was ended, the new one went on",
    )


def stop_all(cluster: Cluster, node: str, signal: str) -> None:
    """Send a signal to every process of a node but its first; the sender lives outside of the node."""
    cluster.hack("exec", node, "sh", "-c", f"kill -{signal} -1")


def test_what_the_store_holds_goes_with_its_object_even_when_the_node_of_the_save_is_gone(
    installation: Installation, rescue: Rescue, place: Namespace
) -> None:
    pod = rescue.begin("discarded")
    try:
        after = rescue.is_moved("discarded", pod)
        order = place.await_phase(pod, "Restored")
        identity = order["status"]["checkpoint"]
        assert any(identity in key for key in installation.stored(place.name))
        place.kubectl("delete", "checkpoint", order["metadata"]["name"], "-n", place.name, "--timeout=60s")
        assert not [key for key in installation.stored(place.name) if identity in key or "/chunks/" in key]
        before = len(place.counts(after["metadata"]["name"]))
        wait_for("more steps", lambda: len(place.counts(after["metadata"]["name"])) > before)
    finally:
        rescue.end()


def test_a_namespace_that_is_deleted_leaves_nothing_in_the_store(
    installation: Installation, place: Namespace
) -> None:
    save_by_hand(place, "last")
    assert installation.stored(place.name)
    place.kubectl("delete", "namespace", place.name, "--timeout=150s", timeout=160)
    left = [key for key in installation.stored(place.name) if not key.endswith("/collecting.json")]
    assert not left


def test_the_store_is_tidied_by_the_job_that_the_component_adds(
    installation: Installation, installed: Cluster, place: Namespace
) -> None:
    save_by_hand(place, "tidied")
    before = installation.saved(place.name)
    kubectl = installed.kubectl
    kubectl("create", "job", "tidy-now", "-n", SYSTEM, "--from=cronjob/crikpy-tidy")
    try:
        ended = wait_for("the tidying job's end", lambda: _ended(kubectl.get("job", "tidy-now", SYSTEM)))
        assert ended == "Complete", kubectl.said("logs", "job/tidy-now", "-n", SYSTEM)
    finally:
        kubectl("delete", "job", "tidy-now", "-n", SYSTEM, "--wait=false")
    assert installation.saved(place.name) == before, "what is of use was removed"


def _ended(found: Json) -> str:
    held = [each["type"] for each in found["status"].get("conditions", []) if each["status"] == "True"]
    return next((kind for kind in held if kind in ("Complete", "Failed")), "")


def test_nothing_that_the_agents_store_can_be_read_without_their_keys(
    installation: Installation, place: Namespace
) -> None:
    save_by_hand(place, "sealed")
    store = installation.open_bucket()
    keys = [key for key in installation.stored(place.name) if key.endswith(names.MANIFEST) or "/chunks/" in key]
    assert keys
    for key in keys:
        assert bytes(store.get(key)).startswith(SEALED_MAGIC), key
