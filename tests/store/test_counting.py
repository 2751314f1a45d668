"""What a store did not fulfil is counted by act and reason, and still raised; what is not there is an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from crikpy.errors import CrikpyError, ObjectNotFoundError
from crikpy.metrics import Metrics
from crikpy.store.counting import CountingStore
from crikpy.store.local import LocalStore


def test_faults_are_counted_by_act_and_raised_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    metrics = Metrics()
    store = CountingStore(LocalStore(tmp_path / "store"), metrics)
    acts = {
        "read": lambda: store.get("a/b"),
        "write": lambda: store.put("a/b", b"x"),
        "check": store.check,
    }
    for act, attempt in acts.items():
        with pytest.raises(CrikpyError) as caught:
            attempt()
        labels = {"act": act, "reason": caught.value.reason}
        assert metrics.registry.get_sample_value("crikpy_store_errors_total", labels) == 1


def test_what_is_fulfilled_and_what_is_not_there_are_no_faults(tmp_path: Path) -> None:
    metrics = Metrics()
    store = CountingStore(LocalStore(tmp_path), metrics)
    with pytest.raises(ObjectNotFoundError):
        store.get("a/b")
    assert store.put_if_absent("a/b", b"x")
    assert store.get("a/b") == b"x"
    assert [found.key for found in store.list("a/")] == ["a/b"]
    assert list(store.folders("")) == ["a"]
    assert "crikpy_store_errors_total{" not in metrics.render()
