"""Pods that end in other ways than by a notice: nothing is saved that need not be, nothing is lost that was."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from crikpy import names
from tests.e2e.cluster import Cluster, Notices, settle
from tests.e2e.kubectl import KubectlError, wait_for
from tests.e2e.pods import Namespace, assert_goes_on, namespace, phase_of
from tests.e2e.workloads import COUNT, bare_pod, counting, deployment, job, template

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ENDS_ON_TERM = COUNT.replace("import os,", "import signal, os,").replace(
    "for step",
    "signal.signal(signal.SIGTERM, lambda *_: (print('asked to end', flush=True), sys.exit(0)))\nfor step",
    1,
)


@pytest.fixture
def place(installed: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    name = f"crikpy-e2e-{abs(hash(request.node.name)) % 10**8}"
    with namespace(installed.kubectl, name, tmp_path) as made:
        yield made


def test_a_deleted_pod_ends_as_it_would_without_crikpy(place: Namespace) -> None:
    place.apply(bare_pod("deleted", template(counting(program=ENDS_ON_TERM), app="deleted")))
    (pod,) = place.watch("deleted")
    place.kubectl("delete", "pod", pod.name, "-n", place.name, "--wait=true")
    assert "asked to end" in pod.log.read_text()
    assert place.order_of(pod) is None
    assert not place.kubectl.events(place.name, reason="CheckpointComplete")


def test_a_pod_that_was_deleted_by_hand_is_begun_anew_by_its_controller(place: Namespace) -> None:
    place.apply(deployment("again", template(app="again"), replicas=1))
    (pod,) = place.watch("again")
    place.order(pod)
    place.await_phase(pod, "Complete")
    place.kubectl("delete", "pod", pod.name, "-n", place.name, "--wait=true")
    (after,) = place.watch("again")
    assert after.counts()[0].step == 0
    assert after.counts()[0].life != pod.counts()[0].life


def test_a_drained_node_hands_its_pods_on(installed: Cluster, place: Namespace) -> None:
    place.apply(job("drained", template(app="drained")))
    (pod,) = place.watch("drained")
    try:
        words = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--pod-selector=app=drained")
        place.kubectl("drain", pod.node, *words, "--timeout=100s", timeout=120)
        after = place.replacement("drained", pod)
        assert after["spec"]["nodeName"] != pod.node
        assert_goes_on(pod.counts(), place.counts(after["metadata"]["name"]))
    finally:
        place.kubectl("uncordon", pod.node)


def test_a_job_that_completes_while_it_is_saved_is_complete(place: Namespace) -> None:
    place.apply(job("ending", template(counting(steps=40), app="ending")))
    (pod,) = place.watch("ending", at_least=30)
    for _ in range(3):
        place.order(pod)
    wait_for(
        "the job to complete", lambda: place.kubectl.get("job", "ending", place.name)["status"].get("succeeded")
    )
    assert len(place.pods("ending")) == 1
    final = ("Complete", "Failed", "Expired")
    wait_for(
        "every order to end",
        lambda: all(phase_of(order) in final for order in place.kubectl.list("checkpoints", place.name)),
    )


def test_exec_works_before_during_and_after_a_checkpoint_and_a_move(
    installed: Cluster, notices: Notices, place: Namespace
) -> None:
    probe = {"exec": {"command": ["cat", "/proc/self/stat"]}, "periodSeconds": 1, "timeoutSeconds": 5}
    place.apply(job("probed", template(counting(readinessProbe=probe, livenessProbe=probe), app="probed")))
    (pod,) = place.watch("probed")
    kubectl = place.kubectl
    with _executing(place, pod.name):
        notices.spot(pod.node)
        try:
            after = place.replacement("probed", pod)
            assert_goes_on(pod.counts(), place.counts(after["metadata"]["name"]))
            said = kubectl("exec", after["metadata"]["name"], "-n", place.name, "--", "echo", "still here")
            assert said.strip() == "still here"
            assert after["status"]["containerStatuses"][0]["restartCount"] == 0
        finally:
            notices.withdraw_all([pod.node])


class _executing:  # noqa: N801  # reads as what it does
    """Keeps a command running in a container by `kubectl exec` until the context ends."""

    def __init__(self, place: Namespace, pod: str) -> None:
        words = place.kubectl.argv("exec", pod, "-n", place.name, "--", "sleep", "600")
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self) -> None:
        settle(1)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def test_a_pod_with_a_bad_annotation_is_refused_in_words(place: Namespace) -> None:
    with pytest.raises(KubectlError, match=r"crikpy\.io/interval"):
        place.apply(bare_pod("bad", template(app="bad", annotations={names.INTERVAL: "often"})))


def test_a_container_without_a_command_is_left_alone_with_a_warning(place: Namespace) -> None:
    pod = template(app="silent")
    del pod["spec"]["containers"][0]["command"]
    pod["spec"]["containers"][0]["args"] = ["sleep", "600"]
    said = place.apply(bare_pod("silent", pod))
    assert "Warning" in said
    assert "command" in said
    assert len(place.kubectl.get("pod", "silent", place.name)["spec"].get("initContainers") or ()) == 0


def test_a_job_is_told_how_not_to_count_moves_as_failures(place: Namespace) -> None:
    plain = job("hinted", template(app="hinted"))
    del plain["spec"]["podFailurePolicy"]
    assert "podFailurePolicy" in place.apply(plain)


def test_a_pod_that_cannot_be_saved_says_so_and_runs_on(place: Namespace) -> None:
    # A second process with a session of its own whose parent has ended: it left the tree.
    script = f"import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n{COUNT}"
    place.apply(bare_pod("stray", template(counting(program=script), app="stray")))
    (pod,) = place.watch("stray")
    event = wait_for("the event", lambda: place.kubectl.events(place.name, name=pod.name, reason="CannotBeSaved"))
    assert "left its tree" in event[0]["message"]
    before = len(pod.counts())
    wait_for("more steps", lambda: len(pod.counts()) > before + 4)


def test_a_short_shell_job_is_not_harmed_by_opting_in(place: Namespace) -> None:
    done = job("shell", template(counting(command=["sh", "-c", "echo one && exit 0"]), app="shell"))
    place.apply(done)
    wait_for(
        "the job to complete", lambda: place.kubectl.get("job", "shell", place.name)["status"].get("succeeded")
    )
