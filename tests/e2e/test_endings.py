"""Pods that end in other ways than by a notice: nothing is saved that need not be, nothing is lost that was."""

from __future__ import annotations

import pytest

from crikpy import names
from tests.e2e.cluster import Cluster, Notices
from tests.e2e.kubectl import Json, KubectlError, wait_for
from tests.e2e.pods import Namespace, assert_goes_on, phase_of, ready
from tests.e2e.workloads import COUNT, bare_pod, counting, deployment, job, stateful_set, template

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ENDS_ON_TERM = COUNT.replace("import os,", "import signal, os,").replace(
    "for step",
    "signal.signal(signal.SIGTERM, lambda *_: (print('asked to end', flush=True), sys.exit(0)))\nfor step",
    1,
)


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
    drained, *others = installed.nodes
    apps = ("drained-job", "drained-set", "drained-web")
    with installed.cordoned(*others):
        place.apply(
            job(apps[0], template(app=apps[0])),
            stateful_set(apps[1], template(app=apps[1])),
            deployment(apps[2], template(app=apps[2]), replicas=1),
        )
        before = {app: place.watch(app)[0] for app in apps}
    with installed.uncordoned_later(drained):
        words = ("--ignore-daemonsets", "--delete-emptydir-data", f"--pod-selector=app in ({','.join(apps)})")
        place.kubectl("drain", drained, *words, "--timeout=100s", timeout=120)
        for app, pod in before.items():
            after = place.replacement(app, pod)
            assert after["spec"]["nodeName"] != drained
            assert_goes_on(pod.counts(), place.counts(after["metadata"]["name"]))


def test_a_pod_that_is_deleted_from_a_node_that_karpenter_empties_goes_on_elsewhere(
    installed: Cluster, place: Namespace
) -> None:
    emptied, *others = installed.nodes
    with installed.cordoned(*others):
        place.apply(stateful_set("emptied", template(app="emptied")))
        (pod,) = place.watch("emptied")
    place.kubectl("taint", "node", emptied, "karpenter.sh/disrupted:NoSchedule")
    try:
        place.kubectl("delete", "pod", pod.name, "-n", place.name, "--wait=false")
        after = place.replacement("emptied", pod)
    finally:
        place.kubectl("taint", "node", emptied, "karpenter.sh/disrupted:NoSchedule-")
    assert after["spec"]["nodeName"] != emptied
    assert_goes_on(pod.counts(), place.counts(after["metadata"]["name"]))


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
    with place.executing(pod.name, "sleep", "600"):
        notices.spot(pod.node)
        try:
            after = place.replacement("probed", pod)
            assert_goes_on(pod.counts(), place.counts(after["metadata"]["name"]))
            said = kubectl("exec", after["metadata"]["name"], "-n", place.name, "--", "echo", "still here")
            assert said.strip() == "still here"
            assert after["status"]["containerStatuses"][0]["restartCount"] == 0
        finally:
            notices.withdraw_all([pod.node])


def test_exec_and_probes_work_in_a_pod_that_waits_for_the_end_of_the_one_before_it(place: Namespace) -> None:
    hook = {"preStop": {"exec": {"command": ["sleep", "18"]}}}
    probe = {"exec": {"command": ["cat", "/proc/self/stat"]}, "periodSeconds": 1, "timeoutSeconds": 5}
    container = counting(lifecycle=hook, readinessProbe=probe, livenessProbe=probe)
    place.apply(deployment("next", template(container, app="next"), replicas=1))
    (pod,) = place.watch("next")
    place.evict(pod)

    def waits() -> Json | None:
        found = [other for other in place.pods("next") if other["metadata"]["uid"] != pod.uid and ready(other)]
        return found[0] if found else None

    name = wait_for("a replacement that answers its probe", waits)["metadata"]["name"]
    assert place.kubectl("exec", name, "-n", place.name, "--", "echo", "in here").strip() == "in here"
    assert place.log(name) == "", "the job has begun before the one that it follows has ended"
    with place.executing(name, "sleep", "600"):
        after = place.replacement("next", pod)
        assert_goes_on(pod.counts(), place.counts(name))
        assert after["metadata"]["name"] == name
        assert after["status"]["containerStatuses"][0]["restartCount"] == 0


def test_a_budget_is_kept_until_the_node_is_about_to_go(
    installed: Cluster, notices: Notices, place: Namespace
) -> None:
    victim, *others = installed.nodes
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "kept"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "kept"}}},
    }
    with installed.cordoned(*others):
        place.apply(budget, deployment("kept", template(app="kept"), replicas=2))
        before = place.watch("kept", number=2)
    notices.spot(victim, in_s=40)
    try:
        for pod in before:
            place.await_phase(pod, "Complete")
            place.await_event(pod.name, "EvictionBlocked")
        for pod in before:
            after = place.replacement("kept", pod)
            assert after["spec"]["nodeName"] != victim
            assert_goes_on(pod.counts(), place.counts(after["metadata"]["name"]))
            assert "deleted" in place.await_event(pod.name, "Evicted")["message"]
    finally:
        notices.withdraw_all([victim])


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
    # A process whose parent has ended, with a first one that keeps no orphans: it left the tree.
    keep_none = "import ctypes, os\nctypes.CDLL(None).prctl(36, 0, 0, 0, 0)\n"
    script = f"{keep_none}if os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n{COUNT}"
    place.apply(bare_pod("stray", template(counting(program=script), app="stray")))
    (pod,) = place.watch("stray")
    assert "left its tree" in place.await_event(pod.name, "CannotBeSaved")["message"]
    before = len(pod.counts())
    wait_for("more steps", lambda: len(pod.counts()) > before + 4)


def test_a_short_shell_job_is_not_harmed_by_opting_in(place: Namespace) -> None:
    done = job("shell", template(counting(command=["sh", "-c", "echo one && exit 0"]), app="shell"))
    place.apply(done)
    wait_for(
        "the job to complete", lambda: place.kubectl.get("job", "shell", place.name)["status"].get("succeeded")
    )
