"""Which containers are chosen, what is refused, and what is said of those that are left alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from crikpy import names
from crikpy.controller.eligible import choose
from crikpy.controller.injecting import inject
from crikpy.errors import AnnotationError
from tests.controller.admitting import SETTINGS, Json, container, imaged, pod_of, pods


def test_every_container_is_chosen_by_default() -> None:
    choice = choose(pod_of(container("a"), imaged("b"), container("c", args=["x"])))
    assert (choice.ready, choice.imaged, choice.warnings) == (("a", "c"), ("b",), ())


def test_the_annotation_chooses_among_them() -> None:
    choice = choose(pod_of(container("a"), imaged("b"), imaged("c"), annotations={names.CONTAINERS: "c,a"}))
    assert (choice.ready, choice.imaged) == (("a",), ("c",))


def test_an_empty_command_is_none() -> None:
    assert choose(pod_of(imaged(command=[]))).imaged == ("main",)


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({names.CONTAINERS: "main,other"}, [names.CONTAINERS, "'main,other'", "main, side"]),
        ({names.EXCLUDE_VOLUMES: "data"}, [names.EXCLUDE_VOLUMES, "scratch, tmp"]),
        ({names.KEEP: "0", names.INTERVAL: "soon"}, [names.KEEP, names.INTERVAL]),
        ({names.CONTAINERS: "x", names.EXCLUDE_VOLUMES: "y"}, [names.CONTAINERS, names.EXCLUDE_VOLUMES]),
    ],
)
def test_a_wish_that_cannot_be_is_refused(annotations: dict[str, str], words: list[str]) -> None:
    volumes = [
        {"name": "scratch", "emptyDir": {}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    with pytest.raises(AnnotationError) as caught:
        choose(pod_of(container("main"), container("side"), annotations=annotations, volumes=volumes))
    assert [word for word in words if word not in caught.value.message] == []


def test_a_volume_of_our_name_is_refused() -> None:
    with pytest.raises(AnnotationError, match="reserved"):
        choose(pod_of(volumes=[{"name": "crikpy-launcher", "hostPath": {"path": "/"}}]))


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"hostPID": True}, "hostPID"),
        ({"shareProcessNamespace": True}, "shareProcessNamespace"),
        ({"os": {"name": "windows"}}, "Windows"),
        ({"nodeSelector": {"kubernetes.io/os": "windows"}}, "Windows"),
    ],
)
def test_a_pod_that_cannot_be_saved_is_left_alone(spec: dict[str, Any], word: str) -> None:
    choice = choose(pod_of(**spec))
    assert (choice.ready, choice.imaged) == ((), ())
    assert word in choice.warnings[0]


@pytest.mark.parametrize("kind", ["DaemonSet", "Node"])
def test_a_pod_that_belongs_to_its_node_is_left_alone(kind: str) -> None:
    pod = pod_of()
    pod["metadata"]["ownerReferences"] = [{"kind": kind, "name": "n", "uid": "u", "controller": True}]
    choice = choose(pod)
    assert (choice.ready, choice.imaged) == ((), ())
    assert kind in choice.warnings[0]


@pytest.mark.parametrize(
    "spec",
    [
        {"hostPID": False, "shareProcessNamespace": False, "os": {"name": "linux"}},
        {"hostNetwork": True, "hostIPC": True, "hostUsers": False},
        {"os": None, "nodeSelector": None},
    ],
)
def test_other_ways_to_run_are_no_obstacle(spec: dict[str, Any]) -> None:
    assert choose(pod_of(**spec)).ready == ("main",)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"tty": True}, "terminal"),
        ({"stdin": True}, "standard input"),
        ({"volumeMounts": [{"name": "x", "mountPath": "/.crikpy"}]}, "/.crikpy"),
        ({"volumeMounts": [{"name": "x", "mountPath": "/a/../.crikpy/b/"}]}, "/.crikpy"),
    ],
)
def test_a_container_that_cannot_be_saved_is_left_alone(fields: dict[str, Any], word: str) -> None:
    choice = choose(pod_of(container("main"), container("odd", **fields)))
    assert choice.ready == ("main",)
    assert len(choice.warnings) == 1
    assert "container odd" in choice.warnings[0]
    assert word in choice.warnings[0]


def test_a_container_that_looks_the_same_but_is_fine_is_not_warned_of() -> None:
    choice = choose(
        pod_of(container(tty=False, stdin=False, volumeMounts=[{"name": "x", "mountPath": "/.crikpys"}]))
    )
    assert (choice.ready, choice.warnings) == (("main",), ())


def test_one_added_later_is_chosen_only_with_a_command() -> None:
    pod = inject(pod_of(container("main")), {"main": ()}, SETTINGS)
    pod["spec"]["containers"] += [container("late"), imaged("proxy")]
    choice = choose(pod)
    assert (choice.ready, choice.imaged) == (("main", "late"), ())
    assert "container proxy" in choice.warnings[0]


def test_one_added_later_whose_image_speaks_for_it_is_chosen_by_name() -> None:
    pod = inject(pod_of(container("main")), {"main": ()}, SETTINGS)
    pod["spec"]["containers"].append(imaged("proxy"))
    pod["metadata"]["annotations"][names.CONTAINERS] = "main,proxy"
    assert choose(pod).imaged == ("proxy",)


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (
            pod_of(annotations={"crikpy.io/intervall": "5m"}),
            ["crikpy.io/intervall", "did you mean crikpy.io/interval?"],
        ),
        (pod_of(container(resources={"limits": {"nvidia.com/gpu": "1"}})), ["nvidia.com/gpu", "cuda-checkpoint"]),
        (pod_of(container(resources={"limits": {"nvidia.com/mig-1g.5gb": "1"}})), ["mig", "cannot save it"]),
        (pod_of(container(resources={"limits": {"amd.com/gpu": "1"}})), ["amd.com/gpu", "cannot save it"]),
        (pod_of(container(livenessProbe={"httpGet": {}, "failureThreshold": 2})), ["20 s", "livenessProbe"]),
    ],
)
def test_advice_is_given_with_the_choice(pod: Json, words: list[str]) -> None:
    choice = choose(pod)
    assert choice.ready == ("main",)
    assert [word for word in words if word not in " ".join(choice.warnings)] == []


@pytest.mark.parametrize(
    "probe",
    [
        {"exec": {"command": ["true"]}},
        {"httpGet": {}, "periodSeconds": 10, "failureThreshold": 6},
        {"tcpSocket": {}, "periodSeconds": 60},
        {},
    ],
)
def test_a_patient_probe_is_not_warned_of(probe: dict[str, Any]) -> None:
    assert choose(pod_of(container(livenessProbe=probe))).warnings == ()


def test_recreation_is_for_bare_pods() -> None:
    pod = pod_of(annotations={names.RECREATE: "true"})
    assert choose(pod).warnings == ()
    pod["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "j", "uid": "u", "controller": True}]
    assert names.RECREATE in choose(pod).warnings[0]


@given(pods())
def test_every_container_is_chosen_or_spoken_of(pod: Json) -> None:
    choice = choose(pod)
    for one in pod["spec"]["containers"]:
        spoken_of = any(f"container {one['name']} alone" in warning for warning in choice.warnings)
        whole = any("cannot save this pod" in warning for warning in choice.warnings)
        assert (one["name"] in choice.ready + choice.imaged) is not (spoken_of or whole)
