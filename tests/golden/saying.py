"""What the parts of this release say to each other, by their own writers: `python -m tests.golden.saying FOLDER`.

hack/golden keeps it for later releases, whose readers must understand it, and whose writers must not say less.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from crikpy.agent.labelling import Labels
from crikpy.agent.nodepods import NodePods
from crikpy.agent.outlook import OwnNode
from crikpy.agent.readiness import Readiness
from crikpy.aio.clock import Deadline
from crikpy.capsule.places import JobPlace
from crikpy.controller.actions import MarkNode, UndoNode
from crikpy.controller.admission import Admission
from crikpy.controller.placing import Placer
from crikpy.controller.reviews import parse_review, render_answer
from crikpy.controller.sighting import Sight
from crikpy.errors import RegistryError
from crikpy.kube.nodes import notice_condition, parse_node, render_report_patch
from crikpy.kube.pods import parse_pod
from crikpy.kube.resources import NODES, PODS
from crikpy.model.capsule import Capsule
from crikpy.model.workload import Workload
from crikpy.names import CONDITION_READY, INJECTED, PLAIN_GROUP
from crikpy.settings import AgentSettings, ControllerSettings, RunSettings, Settings
from crikpy.store.local import LocalStore
from tests.agent.cluster import NODE, condition, running
from tests.controller.admitting import patched, review_of
from tests.fakes.kube import FakeKube
from tests.golden.frames import sessions
from tests.golden.orders import CASES, complete_status_of, order_in
from tests.golden.stage import NOTES, NOTICE, REPORTED, STORE, UID, Json, Stage, raw_pod

_SETTINGS: Final = ControllerSettings(launcher_image="registry.example/launcher:1")


async def orders(folder: Path) -> Json:
    """Return Checkpoint objects by what has become of them."""
    return {case: await order_in(folder, case) for case in CASES}


async def nodes(folder: Path) -> Json:
    """Return a node under a notice, with what the controller heard and did; and the same once it is spared."""
    async with Stage.set_up(folder) as stage:
        await _agent_at_work(stage, folder)
        stage.teller.tell_condition(notice_condition(NOTICE, datetime.now(UTC)))
        await FakeKube.until(lambda: parse_node(stage.node()).notice is not None)
        patch = render_report_patch(parse_node(stage.node()), [REPORTED])
        await stage.api.patch(NODES, NODE, patch)
        await stage.actor.perform(MarkNode(node=NODE, notice=NOTICE))
        interrupted = stage.node()
        stage.teller.tell_condition(notice_condition(None, datetime.now(UTC)))
        await FakeKube.until(lambda: parse_node(stage.node()).notice is None)
        await stage.actor.perform(UndoNode(node=NODE))
        return {"interrupted": interrupted, "spared": stage.node()}


async def _agent_at_work(stage: Stage, folder: Path) -> None:
    """Have the node's agent say what the node is like."""
    settings = Settings(agent=AgentSettings(node=NODE))
    (folder / "store").mkdir(exist_ok=True)
    readiness = Readiness(LocalStore(folder / "store"), stage.teller, stage.metrics, settings)
    own = OwnNode(stage.api, settings, stage.metrics)

    def all_is_said() -> bool:
        node = parse_node(stage.node())
        return bool(node.cpu and node.cpu_features and node.family and condition(stage.kube, CONDITION_READY))

    async with running(own.run(), Labels(stage.teller, own).run(), readiness.run()):
        await FakeKube.until(all_is_said)


async def pods(folder: Path) -> Json:
    """Return a pod as the webhook makes it, a checkpoint of it waiting."""
    async with Stage.set_up(folder) as stage:
        await _agent_at_work(stage, folder)
        waiting = await stage.make(parse_pod(raw_pod("train-0", UID, notes={INJECTED: "main"})))
        await stage.tell(waiting, complete_status_of())
        asked = raw_pod("train-0", UID, notes=NOTES)
        del asked["spec"]["nodeName"], asked["status"]
        sight = Sight(stage.api, stage.metrics)
        async with running(sight.run()):
            await FakeKube.until(lambda: sight.complete)
            webhook = Admission(_no_registry, Placer(sight, stage.metrics), _SETTINGS, metrics=stage.metrics)
            review = parse_review(review_of(asked))
            verdict = await webhook.review_pod(replace(review, namespace=asked["metadata"]["namespace"]))
        assert verdict.changed is not None, verdict
        return {"made": patched(asked, json.loads(render_answer(review, verdict)))}


async def _no_registry(image: str, *, namespace: str, pull_secrets: Sequence[str], deadline: Deadline) -> Any:
    raise RegistryError(f"nobody asks for {image}")


async def kept(folder: Path) -> Json:
    """Return what an agent keeps of a pod, and `crikpy run` of its job, on the machine's disk."""
    async with Stage.set_up(folder) as stage:
        stage.kube.put(PODS, raw_pod("train-0", UID, notes={INJECTED: "main", **NOTES}))
        state = folder / "agent"
        known = NodePods(stage.api, AgentSettings(node=NODE, state_dir=state), stage.metrics)
        file = state / "pods" / f"{UID}.json"
        async with running(known.run()):
            await FakeKube.until(file.exists)
        cluster, namespace = PLAIN_GROUP
        job = Workload(cluster=cluster, namespace=namespace, name="train")
        place = JobPlace(RunSettings(run_dir=folder / "run", lib_dir=folder / "lib"), job)
        carried = Capsule(
            launcher_pid=0, socket=place.socket, carried=("/data",), excluded=("/data/tmp",), inherited=("0:42",)
        )
        place.record(STORE, ("train", "--fast"), carried, "0011223344556677")
        recorded = json.loads((folder / "run" / "train" / "job.json").read_text())
        return {"pod": json.loads(file.read_text()), "job": recorded}


SAID: Final[dict[str, Callable[[Path], Awaitable[Json]]]] = {
    "orders": orders,
    "nodes": nodes,
    "pods": pods,
    "kept": kept,
}


def say(part: str) -> Json:
    """Have this release say one part."""
    with tempfile.TemporaryDirectory(prefix="crikpy-") as folder:
        return asyncio.run(_say(SAID[part], Path(folder)))


async def _say(part: Callable[[Path], Awaitable[Json]], folder: Path) -> Json:
    return await part(folder)


def main() -> None:
    """Write everything into a new folder; what the launcher says needs the program of hack/setup, and root."""
    folder = Path(sys.argv[1])
    folder.mkdir()
    said = {part: say(part) for part in SAID} | {"launcher": sessions()}
    for part, content in said.items():
        (folder / f"{part}.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
