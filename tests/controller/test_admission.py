"""Verdicts on pods and templates, with images looked up in a registry on a real socket."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from crikpy import names
from crikpy.controller.admission import Admission
from crikpy.controller.images import RegistryLookup
from crikpy.controller.placing import Placer
from crikpy.controller.reviews import Verdict, parse_review
from crikpy.controller.sighting import Sight
from crikpy.kube.client import KubeClient
from crikpy.kube.resources import SECRETS
from crikpy.metrics import Metrics
from crikpy.registry.entrypoints import Registries
from tests.controller.admitting import SETTINGS, Json, container, imaged, pod_of, pods, review_of
from tests.controller.test_admission_templates import HINT, TEMPLATE, job_of
from tests.fakes.kube import FakeKube
from tests.fakes.registry import FakeRegistry, pull_secret


class World:
    """An admission with a registry and an API server."""

    def __init__(
        self,
        admission: Admission,
        placer: Placer,
        sight: Sight,
        metrics: Metrics,
        registry: FakeRegistry,
        kube: FakeKube,
    ) -> None:
        self.admission = admission
        self.placer = placer
        self.sight = sight
        self.metrics = metrics
        self.registry = registry
        self.kube = kube

    def image(self, name: str = "team/train:v1") -> str:
        return f"{self.registry.server}/{name}"

    async def pod(
        self, pod: Json, *, operation: str = "CREATE", kind: str = "Pod", old: Json | None = None
    ) -> Verdict:
        body = review_of(pod, kind=kind, operation=operation, old=old)
        return await self.admission.review_pod(parse_review(body))

    async def template(
        self, obj: Json, *, kind: str = "Job", operation: str = "CREATE", old: Json | None = None
    ) -> Verdict:
        return await self.admission.review_template(
            parse_review(review_of(obj, kind=kind, operation=operation, old=old))
        )

    def counted(self, outcome: str) -> float:
        value = self.metrics.registry.get_sample_value("crikpy_admissions_total", {"outcome": outcome})
        assert self.metrics.registry.get_sample_value("crikpy_admission_duration_seconds_count"), "no review timed"
        return value or 0.0


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        registry = await stack.enter_async_context(FakeRegistry().serving())
        registry.push("team/train", "v1", entrypoint=["python", "train.py"], cmd=["--fast"])
        kube = await stack.enter_async_context(FakeKube().serving())
        api = await stack.enter_async_context(await KubeClient.connect(kube.settings(tmp_path)))
        registries = await stack.enter_async_context(Registries(plain_hosts={registry.server}))
        metrics = Metrics()
        sight = Sight(api, metrics)
        placer = Placer(sight, metrics)
        admission = Admission(RegistryLookup(api, registries), placer, SETTINGS, metrics=metrics)
        yield World(admission, placer, sight, metrics, registry, kube)


def command_of(verdict: Verdict, index: int = 0) -> list[str]:
    """Return what a container runs below the launcher; it must run there."""
    assert verdict.changed is not None
    one = verdict.changed["spec"]["containers"][index]
    assert one["command"][:4] == ["/.crikpy/launch", "--agent-wait", "30", "--"]
    return [*one["command"][4:], *one.get("args", [])]


async def test_a_pod_that_opts_in_gets_the_launcher(world: World) -> None:
    verdict = await world.pod(pod_of())
    assert command_of(verdict) == ["python", "train.py"]
    assert (verdict.refusal, verdict.warnings) == ("", ())
    assert world.counted("injected") == 1


@pytest.mark.parametrize("annotations", [None, {}, {names.OPT_IN: "false"}, {names.KEEP: "rubbish"}])
async def test_any_other_pod_passes_untouched(world: World, annotations: dict[str, str] | None) -> None:
    pod = pod_of()
    pod["metadata"]["annotations"] = annotations
    assert await world.pod(pod) == Verdict()
    assert world.counted("unchanged") == 1


async def test_only_pods_that_are_made_or_changed_are_looked_at(world: World) -> None:
    assert await world.pod(pod_of(), operation="DELETE") == Verdict()
    assert await world.pod(pod_of(), kind="PodTemplate") == Verdict()


@pytest.mark.parametrize(
    "annotations", [{names.OPT_IN: "yes", names.KEEP: "0"}, {names.KEEP: "0"}, {names.CONTAINERS: "nobody"}]
)
async def test_a_wish_that_cannot_be_is_refused_by_name(world: World, annotations: dict[str, str]) -> None:
    verdict = await world.pod(pod_of(annotations=annotations))
    assert [name for name in annotations if name not in verdict.refusal] == []
    assert verdict.changed is None
    assert world.counted("refused") == 1


async def test_the_second_review_changes_nothing(world: World) -> None:
    first = await world.pod(pod_of(imaged(image=world.image())))
    assert first.changed is not None
    second = await world.pod(first.changed)
    assert second.changed is None
    assert second.refusal == ""


async def test_an_image_says_what_its_container_runs(world: World) -> None:
    verdict = await world.pod(pod_of(imaged(image=world.image())))
    assert command_of(verdict) == ["python", "train.py", "--fast"]


async def test_args_take_the_place_of_the_images_own(world: World) -> None:
    verdict = await world.pod(pod_of(imaged(image=world.image(), args=["--slow"])))
    assert command_of(verdict) == ["python", "train.py", "--slow"]


async def test_args_alone_run_where_the_image_has_no_entrypoint(world: World) -> None:
    world.registry.push("team/plain", "v1", cmd=["sh"])
    verdict = await world.pod(pod_of(imaged(image=world.image("team/plain:v1"), args=["echo", "hi"])))
    assert command_of(verdict) == ["echo", "hi"]


async def test_a_private_image_is_read_with_the_pods_pull_secret(world: World) -> None:
    world.registry.auth = "token"
    secret = pull_secret(world.registry.server) | {"metadata": {"name": "pull", "namespace": "team"}}
    world.kube.put(SECRETS, secret)
    pod = pod_of(imaged(image=world.image()), imagePullSecrets=[{"name": "pull"}, {"name": "none"}, {}])
    assert command_of(await world.pod(pod)) == ["python", "train.py", "--fast"]


async def test_an_image_that_cannot_be_read_is_left_alone_and_the_rest_is_not(world: World) -> None:
    verdict = await world.pod(pod_of(container("a"), imaged("b", image=world.image("team/none:v1"))))
    assert command_of(verdict) == ["python", "train.py"]
    assert verdict.changed is not None
    assert "command" not in verdict.changed["spec"]["containers"][1]
    assert "container b" in verdict.warnings[0]
    assert "explicit command" in verdict.warnings[0]
    assert "no such image" in verdict.warnings[0]


async def test_unreadable_pull_secrets_are_spoken_of(world: World) -> None:
    world.registry.auth = "token"
    pod = pod_of(imaged(image=world.image()), imagePullSecrets=[{"name": "pull"}])
    assert "cannot read the pod's pull secrets" in (await world.pod(pod)).warnings[0]


async def test_a_pod_of_which_nothing_can_be_saved_passes_unchanged(world: World) -> None:
    world.registry.push("team/empty", "v1")
    for pod in (
        pod_of(hostPID=True),
        pod_of(container(tty=True)),
        pod_of(imaged(image=world.image("team/empty:v1"))),
    ):
        verdict = await world.pod(pod)
        assert (verdict.refusal, verdict.changed) == ("", None)
        assert "as if it had not opted in" in verdict.warnings[-1]


async def test_a_raised_grace_period_is_spoken_of(world: World) -> None:
    verdict = await world.pod(pod_of(terminationGracePeriodSeconds=45))
    assert "from 45 to 120" in verdict.warnings[0]


async def test_a_defect_of_ours_lets_the_pod_pass(world: World, caplog: pytest.LogCaptureFixture) -> None:
    broken = Admission(_defective, world.placer, SETTINGS, metrics=world.metrics)
    with caplog.at_level(logging.ERROR):
        verdict = await broken.review_pod(parse_review(review_of(pod_of(imaged()))))
    assert (verdict.refusal, verdict.changed) == ("", None)
    assert "crikpy failed" in verdict.warnings[0]
    assert "a defect" in caplog.text
    assert world.counted("failed") == 1


async def _defective(image: str, **_: Any) -> Any:
    raise ValueError("a defect")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(pod=pods())
async def test_whatever_comes_is_answered(world: World, pod: Json) -> None:
    for one in pod["spec"]["containers"]:
        one["image"] = world.image()
    verdict = await world.pod(pod)
    assert verdict.refusal == ""
    assert world.counted("failed") == 0
    if verdict.changed is not None:
        assert (await world.pod(verdict.changed)).changed is None


# Pods that are there already.


async def test_a_manifest_that_is_applied_again_leaves_the_launcher_where_it_is(world: World) -> None:
    manifest = pod_of(container("a", args=["x"]), container("b"), terminationGracePeriodSeconds=45)
    running = (await world.pod(manifest)).changed
    assert running is not None
    again = json.loads(json.dumps(running))
    again["spec"]["terminationGracePeriodSeconds"] = 45
    for one, before in zip(again["spec"]["containers"], manifest["spec"]["containers"], strict=True):
        one["command"] = before["command"]
    assert (await world.pod(again, operation="UPDATE", old=running)).changed == running
    assert await world.pod(running, operation="UPDATE", old=running) == Verdict()


async def test_another_command_is_left_for_the_api_server_to_refuse(world: World) -> None:
    running = (await world.pod(pod_of())).changed
    assert running is not None
    other = json.loads(json.dumps(running))
    other["spec"]["containers"][0]["command"] = ["something", "else"]
    assert (await world.pod(other, operation="UPDATE", old=running)).changed is None


async def test_a_change_of_settings_touches_no_running_pod(world: World) -> None:
    running = (await world.pod(pod_of())).changed
    stricter = Admission(
        _defective, world.placer, replace(SETTINGS, grace_period_s=600, agent_wait_s=1), metrics=world.metrics
    )
    assert running is not None
    body = review_of(running, operation="UPDATE", old=running)
    assert await stricter.review_pod(parse_review(body)) == Verdict()


async def test_bad_annotations_of_a_running_pod_are_refused_when_they_come_and_not_again(world: World) -> None:
    good, bad = pod_of(), pod_of(annotations={names.KEEP: "0"})
    assert names.KEEP in (await world.pod(bad, operation="UPDATE", old=good)).refusal
    assert await world.pod(bad, operation="UPDATE", old=bad) == Verdict()


async def test_opting_in_too_late_is_spoken_of(world: World) -> None:
    plain = {"metadata": {"name": "p"}, "spec": pod_of()["spec"]}
    verdict = await world.pod(pod_of(), operation="UPDATE", old=plain)
    assert (verdict.refusal, verdict.changed) == ("", None)
    assert "make this one anew" in verdict.warnings[0]


# Templates.


async def test_a_template_is_judged_like_its_pods(world: World) -> None:
    bad = job_of(template={"metadata": {"annotations": {names.OPT_IN: "true", names.KEEP: "0"}}, "spec": {}})
    assert names.KEEP in (await world.template(bad)).refusal
    alone = job_of(template=TEMPLATE | {"spec": {"containers": [container(tty=True)]}})
    warnings = (await world.template(alone)).warnings
    assert "terminal" in warnings[0]
    assert "as if it had not opted in" in warnings[1]


async def test_a_job_is_told_what_it_lacks(world: World) -> None:
    verdict = await world.template(job_of())
    assert (verdict.refusal, verdict.changed) == ("", None)
    assert HINT in verdict.warnings[-1]


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
async def test_a_sound_template_is_told_nothing(world: World, kind: str) -> None:
    assert await world.template(job_of(), kind=kind) == Verdict()


async def test_a_template_without_the_annotation_is_none_of_ours(world: World) -> None:
    assert await world.template(job_of(template={"spec": {"containers": [imaged()]}})) == Verdict()
    assert await world.template(job_of(), kind="DaemonSet") == Verdict()
    assert await world.template(job_of(), operation="DELETE") == Verdict()


async def test_an_update_that_leaves_the_template_is_never_refused(world: World) -> None:
    bad = job_of(template={"metadata": {"annotations": {names.OPT_IN: "maybe"}}, "spec": {}})
    scaled = json.loads(json.dumps(bad)) | {"metadata": {"name": "train", "finalizers": []}}
    assert await world.template(scaled, operation="UPDATE", old=bad) == Verdict()
    assert (await world.template(bad, operation="UPDATE", old=job_of())).refusal


async def test_an_annotation_on_the_workload_itself_is_spoken_of_once(world: World) -> None:
    plain = {"metadata": {"name": "x"}, "spec": {"template": {"spec": {"containers": [container()]}}}}
    marked = plain | {"metadata": {"name": "x", "annotations": {names.OPT_IN: "true"}}}
    told = await world.template(marked, kind="Deployment", operation="UPDATE", old=plain)
    assert "pod template" in told.warnings[0]
    assert await world.template(marked, kind="Deployment", operation="UPDATE", old=marked) == Verdict()
