"""What the parts of an earlier release say is understood by today's, and today's say all that those rely on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crikpy import names
from crikpy.agent.nodepods import NodePods
from crikpy.capsule.places import JobPlace
from crikpy.controller.evicting import is_done_with
from crikpy.controller.marking import Marks, marks_of
from crikpy.controller.moving import misfit_of
from crikpy.controller.recreating import clean_pod
from crikpy.controller.viewing import KnownOrder
from crikpy.kube.client import KubeClient
from crikpy.kube.nodes import parse_node
from crikpy.kube.orders import parse_order, render_order, render_status
from crikpy.kube.pods import LAUNCH, parse_pod
from crikpy.metrics import Metrics
from crikpy.model.nodes import Taint
from crikpy.model.notices import Trigger
from crikpy.model.orders import OrderPhase
from crikpy.model.pods import OnMisfit, OnRebalance, OnRestoreFailure, Placement
from crikpy.model.workload import Workload
from crikpy.settings import AgentSettings, RunSettings
from crikpy.store.local import LocalStore
from tests.agent.cluster import NODE
from tests.controller.clusters import a_node, a_pod, a_view
from tests.fakes.kube import FakeKube
from tests.fakes.launcher import RUNNING, launcher, says
from tests.golden.saying import SAID, say
from tests.golden.shapes import missing
from tests.golden.stage import CLASS, NEW_UID, NOTICE, REPORTED, SEEN, STORE, UID
from tests.golden.test_releases import RELEASES
from tests.golden.writing import FIRST, PLAIN, write

Json = dict[str, Any]
FOLDER = Path(__file__).parent
PHASES = {
    "NotRestored": OrderPhase.FAILED,
    "Misfit": OrderPhase.COMPLETE,
    "Periodic": OrderPhase.COMPLETE,
    "Recreated": OrderPhase.COMPLETE,
}

pytestmark = pytest.mark.parametrize("release", RELEASES)


def said(release: str, part: str) -> Json:
    """Return what a release said."""
    return json.loads((FOLDER / release / "said" / f"{part}.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def today() -> Json:
    """What this release says."""
    return {part: say(part) for part in SAID}


@pytest.mark.parametrize("part", SAID)
def test_no_field_that_an_earlier_release_relies_on_is_left_out_or_of_another_type(
    release: str, part: str, today: Json
) -> None:
    assert missing(said(release, part), today[part]) == []


def test_the_store_holds_every_field_that_an_earlier_release_relies_on(release: str, tmp_path: Path) -> None:
    write(LocalStore(tmp_path), PLAIN)
    before = FOLDER / release
    records = [path.relative_to(before) for path in before.glob("plain/default/train/checkpoints/*/*.json")]
    assert records
    for record in records:
        then, now = (json.loads((root / record).read_bytes()) for root in (before, tmp_path))
        if "manifest" in then:
            for manifest in (then["manifest"], now["manifest"]):
                for image in manifest["images"]:
                    del image["extents"]  # they depend on what is stored already
        assert missing(then, now) == []


def test_every_field_of_an_order_survives_being_read_and_written_again(release: str) -> None:
    for case, raw in said(release, "orders").items():
        order = parse_order(raw)
        notes = {names.RECREATE_FROM: raw["metadata"]["annotations"].get(names.RECREATE_FROM, "")}
        again = render_order(order, annotations=notes)
        assert again["spec"] == raw["spec"], case
        for part in ("labels", "annotations"):
            assert again["metadata"][part] == raw["metadata"][part], case
        if "status" in raw:
            written = render_status(order.status, raw["status"]["conditions"], SEEN)
            assert {field: written[field] for field in raw["status"]} == raw["status"], case


def test_every_order_means_what_it_meant(release: str) -> None:
    orders = {case: KnownOrder.read(raw) for case, raw in said(release, "orders").items()}
    for case, known in orders.items():
        order = known.order
        assert order.status.phase is (PHASES.get(case) or OrderPhase(case))
        assert (order.spec.pod, order.spec.pod_uid, order.spec.node) == ("train-0", UID, NODE)
        assert (order.cpu, order.instance_type) == (CLASS, "m7i.4xlarge")
        assert order.spec.deadline == NOTICE.deadline
        assert order.spec.notice == ("" if case == "Periodic" else NOTICE.id)
        assert order.spec.trigger is (Trigger.INTERVAL if case == "Periodic" else NOTICE.trigger)
        assert known.recreates is (case == "Recreated")
        assert is_done_with(order) is (case in ("Complete", "Misfit", "Recreated"))
        if case not in ("Pending", "Dumping", "Failed", "Expired"):
            assert (order.status.checkpoint, order.status.location) == (FIRST, STORE)
            assert (order.status.bytes.memory, order.status.frozen_s, order.status.total_s) == (
                3 << 30,
                1.5,
                12.25,
            )
    assert orders["Restored"].order.status.restored_by.endswith(f"/{NEW_UID}")
    moved = a_pod("train-0", uid=NEW_UID, namespace="jobs")
    assert misfit_of(a_view(a_node(), moved), orders["Misfit"].order) == moved


def test_every_sign_on_a_node_means_what_it_meant(release: str) -> None:
    nodes = said(release, "nodes")
    node, spared = (parse_node(nodes[name]) for name in ("interrupted", "spared"))
    assert node.notice == NOTICE
    assert node.reported == (REPORTED,)
    assert not node.strange_reports
    taint = Taint(key=names.TAINT, value=NOTICE.trigger.value, effect="NoSchedule")
    assert marks_of(node) == Marks(taints=(taint,), unschedulable=True, cordoned_for=NOTICE.id)
    assert len(node.cpu) == 16
    assert {"sse2", "fpu"} <= node.cpu_features
    assert (node.family, node.instance) == ("m7i", NOTICE.instance)
    assert spared.notice is None
    assert marks_of(spared) == Marks(taints=(), unschedulable=False)


def test_a_pod_that_the_webhook_made_is_known_and_can_be_made_again(release: str) -> None:
    made = said(release, "pods")["made"]
    pod = parse_pod(made)
    assert (pod.opted_in, pod.injected, pod.workload, pod.fault) == (True, ("main",), "sts-train-0", "")
    assert pod.containers[0].command == ("train", "--fast")
    assert pod.grace_period_s == 120
    options = pod.options
    assert options is not None
    assert (options.interval_s, options.priority, options.keep) == (1800.0, 7, 3)
    assert (options.on_rebalance, options.restore_failure) == (OnRebalance.MIGRATE, OnRestoreFailure.FAIL)
    assert (options.placement, options.on_misfit) == (Placement.REQUIRE, OnMisfit.START)
    assert options.excluded_volumes == ("cache",)
    cleaned = json.dumps(clean_pod(made))
    for ours in (LAUNCH, names.LAUNCHER_CONTAINER, names.LABEL_CPU, names.INJECTED):
        assert ours in json.dumps(made)
        assert ours not in cleaned


async def test_what_the_agent_before_kept_of_its_pods_is_known(release: str, tmp_path: Path) -> None:
    kept = said(release, "kept")["pod"]
    folder = tmp_path / "agent" / "pods"
    folder.mkdir(parents=True)
    (folder / f"{UID}.json").write_text(json.dumps(kept))
    settings = AgentSettings(node=NODE, state_dir=tmp_path / "agent")
    async with FakeKube().serving() as kube, await KubeClient.connect(kube.settings(tmp_path)) as api:
        pod = NodePods(api, settings, Metrics())[UID]
    assert (pod.name, pod.injected, pod.workload, pod.started) == ("train-0", ("main",), "sts-train-0", SEEN)
    assert pod.options is not None
    assert pod.options.restore_failure is OnRestoreFailure.FAIL


def test_a_job_that_an_earlier_crikpy_run_has_begun_is_found(release: str, tmp_path: Path) -> None:
    cluster, namespace = names.PLAIN_GROUP
    job = Workload(cluster=cluster, namespace=namespace, name="train")
    place = JobPlace(RunSettings(run_dir=tmp_path / "run", lib_dir=tmp_path / "lib"), job)
    place.socket.parent.mkdir(parents=True)
    (place.socket.parent / "job.json").write_text(json.dumps(said(release, "kept")["job"]))
    with launcher(place.socket, says(RUNNING)):
        found = place.find()
    assert (found.store_url, found.command) == (STORE, ("train", "--fast"))
    assert (found.capsule.carried, found.capsule.excluded) == (("/data",), ("/data/tmp",))
