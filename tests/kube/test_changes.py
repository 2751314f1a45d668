"""What is told of objects is exactly how they differ from what was told before."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from crikpy.kube.changes import Change, Known, Seen, key_of
from crikpy.kube.raw import Json

_NAMES = st.sampled_from(["a", "b", "c"])
_OBJECTS = st.builds(
    lambda name, uid, version: {"metadata": {"name": name, "uid": str(uid), "resourceVersion": str(version)}},
    _NAMES,
    st.integers(0, 2),
    st.integers(0, 3),
)
_LISTS = st.lists(_OBJECTS, unique_by=lambda target: target["metadata"]["name"], max_size=3)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("list"), _LISTS),
        st.tuples(st.just("is"), _OBJECTS.map(lambda target: [target])),
        st.tuples(st.just("gone"), _OBJECTS.map(lambda target: [target])),
    ),
    max_size=12,
)


def take_list(known: Known, targets: list[Json]) -> Iterator[Seen]:
    """Yield what a complete list tells that comes in two parts."""
    known.begin_list()
    half = len(targets) // 2
    yield from known.take_listed(targets[:half])
    yield from known.take_listed(targets[half:])
    yield from known.end_list()


class Reader:
    """Somebody who hears only what is told, and insists that it makes sense."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}

    def hear(self, seen: Seen) -> None:
        key, before = key_of(seen.object), self.objects.get(key_of(seen.object))
        if seen.change is Change.ADDED:
            assert before is None
        else:
            assert before is not None
            assert before["metadata"]["uid"] == seen.object["metadata"]["uid"]
        if seen.change is Change.MODIFIED:
            assert before != seen.object
        if seen.change is Change.DELETED:
            del self.objects[key]
        else:
            self.objects[key] = seen.object


@given(_STEPS)
def test_whoever_hears_every_change_knows_every_object(steps: list[tuple[str, list[Json]]]) -> None:
    known, reader = Known(), Reader()
    truth: dict[str, Json] = {}
    for step, targets in steps:
        if step == "list":
            truth = {key_of(target): target for target in targets}
            told = list(take_list(known, targets))
        elif step == "is":
            truth |= {key_of(targets[0]): targets[0]}
            told = list(known.take(targets[0]))
        else:
            present = truth.get(key_of(targets[0]))
            if present is not None and present["metadata"]["uid"] == targets[0]["metadata"]["uid"]:
                del truth[key_of(targets[0])]
            told = list(known.take_deleted(targets[0]))
        for seen in told:
            reader.hear(seen)
        assert reader.objects == truth


@given(_LISTS)
def test_the_same_list_again_tells_nothing(targets: list[Json]) -> None:
    known = Known()
    assert len(list(take_list(known, targets))) == len(targets)
    assert list(take_list(known, targets)) == []


def test_objects_of_one_name_in_two_namespaces_are_two() -> None:
    first = {"metadata": {"name": "a", "namespace": "n1", "uid": "1", "resourceVersion": "1"}}
    second = {"metadata": {"name": "a", "namespace": "n2", "uid": "2", "resourceVersion": "2"}}
    known = Known()
    told = list(take_list(known, [first, second]))
    assert [seen.change for seen in told] == [Change.ADDED, Change.ADDED]
    assert [key_of(seen.object) for seen in told] == ["n1/a", "n2/a"]


def test_of_a_large_object_little_is_kept() -> None:
    known = Known()
    large = {"name": "a", "uid": "1", "resourceVersion": "1", "annotations": {"note": "x" * 1000}}
    target: Json = {"metadata": large, "spec": {"containers": []}}
    list(take_list(known, [target]))
    gone = list(take_list(known, []))
    assert gone == [
        Seen(
            change=Change.DELETED,
            object={"metadata": {"name": "a", "uid": "1", "resourceVersion": "1"}},
            whole=False,
        )
    ]
