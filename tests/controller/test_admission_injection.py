"""The launcher in a pod: where it is put, that all else stays, and that the same pod may come again."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given

from crikpy import names
from crikpy.controller.eligible import choose
from crikpy.controller.injecting import grace_warning, inject
from crikpy.kube.pods import parse_pod
from crikpy.settings import ControllerSettings
from tests.controller.admitting import SETTINGS, Json, container, imaged, pod_of, pods


def injected(pod: Json, **words: tuple[str, ...]) -> Json:
    """Return a pod with the launcher before every container of these names; all when none are given."""
    chosen = words or dict.fromkeys((one["name"] for one in pod["spec"]["containers"]), ())
    return inject(pod, chosen, SETTINGS)


def test_the_launcher_comes_before_the_command() -> None:
    pod = injected(pod_of(container("main", "python", "$(SCRIPT)", args=["--fast"])))
    (main,) = pod["spec"]["containers"]
    assert main["command"] == ["/.crikpy/launch", "--agent-wait", "30", "--", "python", "$(SCRIPT)"]
    assert main["args"] == ["--fast"]
    assert main["volumeMounts"] == [{"name": "crikpy-launcher", "mountPath": "/.crikpy", "subPath": "main"}]
    assert pod["metadata"]["annotations"][names.INJECTED] == "main"
    assert pod["spec"]["volumes"] == [{"name": "crikpy-launcher", "emptyDir": {"sizeLimit": "64Mi"}}]


def test_the_words_of_an_image_are_kept_from_being_expanded() -> None:
    pod = injected(pod_of(imaged()), main=("sh", "-c", "echo $$ $(date) ${X}"))
    assert pod["spec"]["containers"][0]["command"][4:] == ["sh", "-c", "echo $$$$ $$(date) $${X}"]


def test_the_init_container_is_first_and_fills_each_containers_part() -> None:
    pod = injected(pod_of(container("a"), container("b"), initContainers=[{"name": "other"}]))
    first, second = pod["spec"]["initContainers"]
    assert second == {"name": "other"}
    assert first["name"] == "crikpy-launcher"
    assert first["image"] == "registry.example/launcher:1"
    assert "command" not in first
    assert first["args"] == ["install", "/.crikpy/a", "/.crikpy/b"]
    assert first["volumeMounts"] == [
        {"name": "crikpy-launcher", "mountPath": "/.crikpy/a", "subPath": "a"},
        {"name": "crikpy-launcher", "mountPath": "/.crikpy/b", "subPath": "b"},
    ]
    assert "imagePullPolicy" not in first


def test_the_pull_policy_and_the_wait_come_from_settings() -> None:
    settings = ControllerSettings(launcher_pull_policy="Never", agent_wait_s=7)
    pod = inject(pod_of(), {"main": ()}, settings)
    assert pod["spec"]["initContainers"][0]["imagePullPolicy"] == "Never"
    assert pod["spec"]["containers"][0]["command"][2] == "7"


@pytest.mark.parametrize(
    ("context", "user"),
    [
        (None, 65532),
        ({}, 65532),
        ({"runAsUser": 0}, 65532),
        ({"runAsNonRoot": True}, 65532),
        ({"runAsUser": 1000}, None),
    ],
)
def test_the_init_container_obeys_the_restricted_standard(context: Json | None, user: int | None) -> None:
    pod = injected(pod_of(securityContext=context))
    security = pod["spec"]["initContainers"][0]["securityContext"]
    assert security.get("runAsUser") == user
    assert security | {"runAsUser": 1} == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 1,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_it_asks_for_what_a_container_of_the_pod_asks_for_except_devices() -> None:
    limits = {"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": "1"}
    pod = injected(
        pod_of(container(resources={"limits": limits, "requests": {"cpu": "2"}, "claims": [{"name": "x"}]}))
    )
    assert pod["spec"]["initContainers"][0]["resources"] == {
        "limits": {"cpu": "2", "memory": "1Gi"},
        "requests": {"cpu": "2"},
    }


@pytest.mark.parametrize("resources", [{}, None, {"limits": {"nvidia.com/gpu": "1"}}])
def test_it_asks_for_nothing_where_the_pod_asks_for_nothing(resources: Json | None) -> None:
    pod = injected(pod_of(container(resources=resources)))
    assert "resources" not in pod["spec"]["initContainers"][0]


@pytest.mark.parametrize(
    ("asked", "got", "told"), [(30, 120, False), (60, 120, True), (0, 120, True), (300, 300, False)]
)
def test_a_short_grace_period_is_raised_and_its_chooser_told(asked: int, got: int, told: bool) -> None:
    pod = pod_of(terminationGracePeriodSeconds=asked)
    assert injected(pod)["spec"]["terminationGracePeriodSeconds"] == got
    warning = grace_warning(pod, SETTINGS)
    assert bool(warning) is told
    assert not told or f"from {asked} to 120" in warning


def test_one_added_later_is_injected_besides() -> None:
    first = injected(pod_of(container("a")))
    first["spec"]["initContainers"][0]["resources"] = {"limits": {"cpu": "9"}}  # somebody else's addition
    first["spec"]["initContainers"][0]["volumeMounts"].insert(0, {"name": "token", "mountPath": "/run/token"})
    first["spec"]["initContainers"].insert(0, {"name": "mesh"})
    first["spec"]["containers"].append(container("late"))
    second = injected(first)
    mesh, mine = second["spec"]["initContainers"]
    assert mesh == {"name": "mesh"}
    assert mine["args"] == ["install", "/.crikpy/a", "/.crikpy/late"]
    assert [mount["mountPath"] for mount in mine["volumeMounts"]] == ["/run/token", "/.crikpy/a", "/.crikpy/late"]
    assert mine["resources"] == {"limits": {"cpu": "9"}}
    assert second["metadata"]["annotations"][names.INJECTED] == "a,late"
    assert second["spec"]["containers"][0] == first["spec"]["containers"][0]


def test_a_pod_that_lost_its_mount_gets_it_again() -> None:
    pod = injected(pod_of())
    del pod["spec"]["containers"][0]["volumeMounts"]
    assert injected(pod)["spec"]["containers"] == injected(pod_of())["spec"]["containers"]


def chosen_of(pod: Json) -> dict[str, tuple[str, ...]]:
    choice = choose(pod)
    return dict.fromkeys(choice.ready, ()) | dict.fromkeys(choice.imaged, ("image", "words"))


@given(pods())
def test_injecting_again_changes_nothing(pod: Json) -> None:
    if chosen := chosen_of(pod):
        once = inject(pod, chosen, SETTINGS)
        assert inject(once, chosen_of(once), SETTINGS) == once


@given(pods())
def test_everything_else_stays_as_it_was(pod: Json) -> None:
    before = copy.deepcopy(pod)
    if not (chosen := chosen_of(pod)):
        return
    changed = inject(pod, chosen, SETTINGS)
    assert pod == before
    without_launcher(changed, chosen)
    expected = copy.deepcopy(before)
    grace = expected["spec"].pop("terminationGracePeriodSeconds", 30)
    assert changed["spec"].pop("terminationGracePeriodSeconds") == max(grace, 120)
    for side in (changed, expected):
        for one in side["spec"]["containers"]:
            drop_empty(one, "volumeMounts", "command")
        drop_empty(side["spec"], "volumes", "initContainers")
    assert changed == expected


def without_launcher(pod: Json, chosen: dict[str, tuple[str, ...]]) -> None:
    """Take out by hand what is documented to be put in."""
    assert pod["metadata"]["annotations"].pop(names.INJECTED).split(",") == [
        one["name"] for one in pod["spec"]["containers"] if one["name"] in chosen
    ]
    assert pod["spec"]["initContainers"].pop(0)["name"] == "crikpy-launcher"
    assert pod["spec"]["volumes"].pop()["name"] == "crikpy-launcher"
    for one in pod["spec"]["containers"]:
        if one["name"] in chosen:
            assert one["command"][:4] == ["/.crikpy/launch", "--agent-wait", "30", "--"]
            one["command"] = one["command"][4:]
            if chosen[one["name"]]:
                assert one["command"] == ["image", "words"]
                one["command"] = None
            assert one["volumeMounts"].pop()["subPath"] == one["name"]


def drop_empty(part: Json, *keys: str) -> None:
    for key in keys:
        if not part.get(key):
            part.pop(key, None)


@given(pods())
def test_the_agent_reads_the_original_commands(pod: Json) -> None:
    chosen = chosen_of(pod)
    if not chosen:
        return
    before, after = parse_pod(pod), parse_pod(inject(pod, chosen, SETTINGS))
    assert after.injected == tuple(one.name for one in before.containers if one.name in chosen)
    for old, new in zip(before.containers, after.containers, strict=True):
        assert new.command == chosen.get(old.name, ()) + old.command
        assert new.mounts == old.mounts


def test_no_two_containers_share_a_part_of_the_volume() -> None:
    pod: Any = injected(pod_of(container("a"), container("b")))
    paths = [mount["subPath"] for one in pod["spec"]["containers"] for mount in one["volumeMounts"]]
    assert paths == ["a", "b"]
