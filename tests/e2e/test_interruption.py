"""A node with every kind of workload gets its two minutes' notice: each goes on elsewhere, mid-count.

One interruption serves all of these tests, as it would be in life; each looks at one kind of workload.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from crikpy import names
from tests.e2e.cluster import Cluster, Notices
from tests.e2e.kubectl import Json, wait_for
from tests.e2e.pods import Namespace, Watched, assert_goes_on, namespace, phase_of
from tests.e2e.workloads import Counted, bare_pod, counting, deployment, job, stateful_set, template

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

SHARED = """
import os, secrets, sys, time
life, me, other = secrets.token_hex(4), sys.argv[2], sys.argv[3]
for step in range(int(sys.argv[1])):
    with open(f"/data/{me}.new", "w") as mine:
        mine.write(f"{life} {step}")
    os.replace(f"/data/{me}.new", f"/data/{me}")
    seen = open(f"/data/{other}").read() if os.path.exists(f"/data/{other}") else "-"
    print(f"life={life} step={step} pid={os.getpid()} other={seen}", flush=True)
    time.sleep(0.25)
"""
"""Counts as the others do, and leaves its count in a volume for its neighbour."""

FILLED = """
import os, secrets, sys, time
life = secrets.token_hex(4)
kept = open("/data/kept", "w+")
kept.write(life); kept.flush()
for step in range(int(sys.argv[1])):
    kept.seek(0)
    assert kept.read() == life == open("/data/kept").read()
    print(f"life={life} step={step} pid={os.getpid()}", flush=True)
    time.sleep(0.25)
"""
"""Counts only as long as a file in an emptyDir holds what was written before the move."""

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass
class Story:
    """What happened.

    Attributes:
        cluster: where.
        place: the namespace of most workloads.
        strict: the namespace under PodSecurity `restricted`.
        victim: the node that got the notice.
        before: the pods at the notice, by workload.
        helper: the second container of the pod with two.
        tainted: the node as it was soon after the notice.
        after: the pods that go on, by workload, as far as they were looked for.
    """

    cluster: Cluster
    place: Namespace
    strict: Namespace
    victim: str
    before: dict[str, list[Watched]] = field(default_factory=dict)
    helper: list[Watched] = field(default_factory=list)
    tainted: Json = field(default_factory=dict)
    after: dict[str, list[Json]] = field(default_factory=dict)

    def where(self, app: str) -> Namespace:
        """Return the namespace of a workload."""
        return self.strict if app == "restricted" else self.place

    def goes_on(self, app: str) -> list[Json]:
        """See that each pod of a workload is continued by another one elsewhere, and return those; look once."""
        if app in self.after:
            return self.after[app]
        found = []
        for pod in self.before[app]:
            after = self.where(app).replacement(app, pod)
            name = after["metadata"]["name"]
            assert after["spec"]["nodeName"] != self.victim
            counts = wait_for("some steps", lambda name=name: self._enough(app, name))  # type: ignore[misc]
            assert_goes_on(pod.counts(), counts)
            found.append(after)
        self.after[app] = found
        return found

    def confinement(self, pod: str, pid: int) -> dict[str, str]:
        """Return what confines a process in a pod of the strict namespace, as the kernel tells."""
        status = self.cluster.kubectl("exec", pod, "-n", self.strict.name, "--", "cat", f"/proc/{pid}/status")
        facts = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        wanted = ("Seccomp", "Seccomp_filters", "NoNewPrivs", "CapEff", "CapBnd")
        return {fact: facts[fact].strip() for fact in wanted}

    def _enough(self, app: str, pod: str) -> list[Counted] | None:
        counts = self.where(app).counts(pod)
        return counts if len(counts) >= 4 else None


NUMBERS = {"plain": 1, "indexed": 3, "state": 1, "web": 2, "bare": 1, "pair": 1, "filled": 1, "restricted": 1}


def _workloads(place: Namespace, strict: Namespace) -> None:
    pair = [
        counting(program=SHARED, mounts={"work": "/data"}),
        counting(program=SHARED, mounts={"work": "/data"}, name="helper"),
    ]
    pair[0]["command"] += ["one", "two"]
    pair[1]["command"] += ["two", "one"]
    volumes = [{"name": "work", "emptyDir": {}}]
    place.apply(
        job("plain", template(app="plain")),
        job("indexed", template(app="indexed"), completions=3, parallelism=3, completionMode="Indexed"),
        stateful_set("state", template(app="state")),
        deployment("web", template(app="web"), replicas=2),
        bare_pod("bare", template(app="bare", annotations={names.RECREATE: "true"})),
        job("pair", template(*pair, app="pair", volumes=volumes)),
        job("filled", template(counting(program=FILLED, mounts={"work": "/data"}), app="filled", volumes=volumes)),
    )
    strict.apply(job("restricted", template(counting(securityContext=RESTRICTED), app="restricted")))


@pytest.fixture(scope="module")
def story(installed: Cluster, notices: Notices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder: Path = tmp_path_factory.mktemp("logs")
    kubectl = installed.kubectl
    victim, *others = installed.nodes
    with (
        namespace(kubectl, "crikpy-e2e-move", folder) as place,
        namespace(kubectl, "crikpy-e2e-strict", folder, restricted=True) as strict,
    ):
        told = Story(installed, place, strict, victim)
        with installed.cordoned(*others):
            _workloads(place, strict)
            for app, number in NUMBERS.items():
                told.before[app] = told.where(app).watch(app, number=number)
            told.helper = place.watch("pair", container="helper")
        notices.spot(victim)
        try:
            told.tainted = wait_for("the taint", lambda: _tainted(installed, victim))
            for app, pods in told.before.items():
                for pod in pods:
                    told.where(app).await_phase(pod, "Complete", "Restoring", "Restored", "Failed")
            yield told
        finally:
            notices.withdraw_all([victim])


def _tainted(cluster: Cluster, node: str) -> Json | None:
    found = cluster.kubectl.get("node", node)
    return found if any(taint["key"] == names.TAINT for taint in found["spec"].get("taints") or ()) else None


def test_the_node_is_tainted_and_cordoned(story: Story) -> None:
    assert story.tainted["spec"]["unschedulable"] is True


@pytest.mark.parametrize("app", ["plain", "state", "bare"])
def test_goes_on_elsewhere_in_the_middle_of_its_count(story: Story, app: str) -> None:
    story.goes_on(app)


def test_a_pod_under_pod_security_restricted_goes_on_elsewhere(story: Story) -> None:
    (after,) = story.goes_on("restricted")
    name = after["metadata"]["name"]
    pid = story.strict.counts(name)[0].pid
    ours, launchers = (story.confinement(name, process) for process in (pid, 1))
    assert ours == launchers, "the job is not confined as its new container is"
    assert ours["Seccomp"] == "2"
    assert ours["NoNewPrivs"] == "1"


def test_each_completion_of_an_indexed_job_goes_on_under_its_own_index(story: Story) -> None:
    label = "batch.kubernetes.io/job-completion-index"
    indexes = {pod.uid: pod.name.split("-")[1] for pod in story.before["indexed"]}
    for before, after in zip(story.before["indexed"], story.goes_on("indexed"), strict=True):
        assert after["metadata"]["labels"][label] == indexes[before.uid]


def test_two_interchangeable_replicas_are_each_resumed_exactly_once(story: Story) -> None:
    after = story.goes_on("web")
    assert len({pod["metadata"]["uid"] for pod in after}) == 2
    lives = {pod.counts()[0].life for pod in story.before["web"]}
    for pod in story.place.pods("web"):
        if pod["spec"]["nodeName"] != story.victim:
            assert {count.life for count in story.place.counts(pod["metadata"]["name"])} <= lives


def test_both_containers_of_a_pod_go_on_together(story: Story) -> None:
    (after,) = story.goes_on("pair")
    name = after["metadata"]["name"]
    helper = wait_for("the helper's steps", lambda: story.place.counts(name, container="helper"))
    assert_goes_on(story.helper[0].counts(), helper)
    lines = story.place.log(name).splitlines()
    theirs = story.helper[0].counts()[0].life
    assert f"other={theirs} " in lines[0], "the shared volume did not travel"


def test_an_empty_dir_travels_with_its_pod(story: Story) -> None:
    story.goes_on("filled")


def test_no_job_counts_the_move_as_a_failure(story: Story) -> None:
    for app in ("plain", "indexed", "pair", "filled"):
        story.goes_on(app)
        status = story.place.kubectl.get("job", app, story.place.name)["status"]
        assert not status.get("failed"), f"{app}: {status}"


def test_the_orders_tell_sizes_durations_and_who_resumed(story: Story) -> None:
    (pod,) = story.before["plain"]
    story.goes_on("plain")
    order = story.place.await_phase(pod, "Restored")
    status = order["status"]
    assert status["bytes"]["memory"] > 0
    assert status["frozenDuration"].endswith("s")
    assert status["location"]
    assert status["restoredBy"].startswith(f"{story.place.name}/")
    conditions = {condition["type"]: condition["status"] for condition in status["conditions"]}
    assert conditions == {"Complete": "True", "Restored": "True"}
    table = story.place.kubectl("get", "ckpt", "-n", story.place.name)
    assert order["metadata"]["name"] in table


def test_events_on_the_pods_tell_the_story(story: Story) -> None:
    (pod,) = story.before["plain"]
    (after,) = story.goes_on("plain")
    story.place.await_event(pod.name, "CheckpointComplete")
    story.place.await_event(after["metadata"]["name"], "Restored")


def test_every_order_ends_in_a_final_phase(story: Story) -> None:
    for app in NUMBERS:
        story.goes_on(app)
    for order in story.place.kubectl.list("checkpoints", story.place.name):
        assert phase_of(order) == "Restored", order


def test_no_pod_that_was_saved_is_said_not_to_have_been(story: Story) -> None:
    for app in NUMBERS:
        story.goes_on(app)
    assert not story.place.kubectl.events(story.place.name, reason="CheckpointFailed")
