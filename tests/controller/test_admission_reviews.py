"""The envelope of admission.k8s.io/v1 and the patches in it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.controller.reviews import Review, Verdict, make_patch, parse_review, render_answer
from crikpy.errors import UsageError
from tests.controller.admitting import apply_patch, patched, pod_of, review_of


def answer_to(verdict: Verdict, obj: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the response within the answer to a question about an object."""
    review = Review(uid="5a3b", operation="CREATE", kind="Pod", namespace="team", object=obj or {})
    answer = json.loads(render_answer(review, verdict))
    assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: dict[str, Any] = answer["response"]
    assert response["uid"] == "5a3b"
    return response


def test_a_review_is_read() -> None:
    review = parse_review(review_of(pod_of(), operation="UPDATE", old={"metadata": {}}))
    assert (review.uid, review.operation, review.kind, review.namespace) == ("5a3b", "UPDATE", "Pod", "team")
    assert review.object == pod_of()
    assert review.old_object == {"metadata": {}}


def test_null_objects_are_empty_ones() -> None:
    review = parse_review(review_of(None, operation="DELETE"))  # type: ignore[arg-type]
    assert (review.object, review.old_object) == ({}, {})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {"uid": "1"}}',
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}',
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": 7}}',
    ],
)
def test_what_is_no_review_is_an_error(body: bytes) -> None:
    with pytest.raises(UsageError):
        parse_review(body)


def test_a_yes_says_nothing_else() -> None:
    assert answer_to(Verdict()) == {"uid": "5a3b", "allowed": True}


def test_a_refusal_has_a_status_and_no_patch() -> None:
    response = answer_to(Verdict(refusal="bad", changed={"a": 1}))
    assert response["allowed"] is False
    assert response["status"] == {"code": 422, "reason": "Invalid", "message": "bad"}
    assert "patch" not in response


def test_a_change_travels_as_a_patch() -> None:
    response = answer_to(Verdict(changed={"a": {"b": 2}}), {"a": {"b": 1}})
    assert response["patchType"] == "JSONPatch"
    assert json.loads(base64.b64decode(response["patch"])) == [{"op": "replace", "path": "/a/b", "value": 2}]
    assert patched({"a": {"b": 1}}, {"response": response}) == {"a": {"b": 2}}


def test_no_change_is_no_patch() -> None:
    assert "patch" not in answer_to(Verdict(changed={"a": 1}), {"a": 1})


def test_warnings_fit_into_headers() -> None:
    response = answer_to(Verdict(warnings=("one\ntwo\x00", "x" * 1000, "one\ntwo\x00", *map(str, range(30)))))
    assert response["warnings"][0] == "one two"
    assert [len(warning) <= 250 for warning in response["warnings"]] == [True] * 15
    assert len(set(response["warnings"])) == 15
    assert sum(map(len, response["warnings"])) < 4096


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


def same(one: object, other: object) -> bool:
    """Compare as JSON does, where true is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@given(JSON_VALUES, JSON_VALUES)
def test_a_patch_makes_the_one_of_the_other(old: Any, new: Any) -> None:
    assert same(apply_patch(old, make_patch(old, new)), new)


@given(JSON_VALUES)
def test_equal_values_need_no_patch(value: Any) -> None:
    assert make_patch(value, json.loads(json.dumps(value))) == []


def test_true_is_not_one() -> None:
    assert make_patch({"a": [1]}, {"a": [True]}) == [{"op": "replace", "path": "/a/0", "value": True}]


def test_names_with_slashes_and_tildes_are_escaped() -> None:
    assert make_patch({}, {"a/b~c": 1}) == [{"op": "add", "path": "/a~1b~0c", "value": 1}]
