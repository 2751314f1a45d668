"""What both kinds of store promise, tried over each."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from crikpy.errors import ObjectNotFoundError
from crikpy.store.base import ObjectStore

KEY = "plain/default/train/holder.json"


def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return sorted(info.key for info in store.list(prefix))


def test_what_was_put_can_be_got(store: ObjectStore) -> None:
    for data in (b"", b"bytes", bytes(range(256)) * 40_000):
        store.put(KEY, data)
        assert store.get(KEY) == data
        store.put(KEY, memoryview(bytearray(data)))
        assert store.get(KEY) == data


def test_put_overwrites(store: ObjectStore) -> None:
    store.put(KEY, b"one")
    store.put(KEY, b"two")
    assert store.get(KEY) == b"two"


def test_getting_what_is_not_there_says_so(store: ObjectStore) -> None:
    with pytest.raises(ObjectNotFoundError, match=KEY):
        store.get(KEY)
    with pytest.raises(ObjectNotFoundError, match=KEY):
        store.get_tagged(KEY)


def test_put_if_absent_writes_once(store: ObjectStore) -> None:
    assert store.put_if_absent(KEY, b"one")
    assert not store.put_if_absent(KEY, b"two")
    assert store.get(KEY) == b"one"
    store.delete(KEY)
    assert store.put_if_absent(KEY, b"three")


def test_of_eight_writers_at_once_exactly_one_wins_twenty_times(store: ObjectStore) -> None:
    def race(key: str) -> None:
        start = threading.Barrier(8)

        def write(number: int) -> bool:
            start.wait()
            return store.put_if_absent(key, f"writer {number}".encode())

        with ThreadPoolExecutor(8) as writers:
            won = list(writers.map(write, range(8)))
        assert won.count(True) == 1
        assert store.get(key) == f"writer {won.index(True)}".encode()

    with ThreadPoolExecutor(10) as races:
        list(races.map(race, [f"races/{number}" for number in range(20)]))


def test_replace_succeeds_only_on_the_tag_that_was_read(store: ObjectStore) -> None:
    store.put(KEY, b"one")
    _, tag = store.get_tagged(KEY)
    newer = store.replace(KEY, b"two", tag)
    assert newer is not None
    assert store.get_tagged(KEY) == (b"two", newer)
    assert store.replace(KEY, b"three", tag) is None
    assert store.get(KEY) == b"two"
    assert store.replace(KEY, b"three", newer) is not None


def test_replace_does_not_bring_back_what_was_deleted(store: ObjectStore) -> None:
    store.put(KEY, b"one")
    _, tag = store.get_tagged(KEY)
    store.delete(KEY)
    assert store.replace(KEY, b"two", tag) is None
    assert keys(store) == []


def test_of_eight_that_replace_the_same_tag_exactly_one_wins(store: ObjectStore) -> None:
    def race(key: str) -> None:
        store.put(key, b"first")
        _, tag = store.get_tagged(key)

        def write(number: int) -> str | None:
            return store.replace(key, f"writer {number}".encode(), tag)

        with ThreadPoolExecutor(8) as writers:
            won = [number for number, new in enumerate(writers.map(write, range(8))) if new is not None]
        assert len(won) == 1
        assert store.get(key) == f"writer {won[0]}".encode()

    with ThreadPoolExecutor(10) as races:
        list(races.map(race, [f"races/{number}" for number in range(10)]))


def test_deleting_is_fine_whether_there_is_something_or_not(store: ObjectStore) -> None:
    store.put(KEY, b"one")
    store.delete(KEY)
    store.delete(KEY)
    assert keys(store) == []


def test_list_yields_what_starts_with_the_prefix(store: ObjectStore) -> None:
    for key in ("a/b/one", "a/b/two", "a/bc/three", "a/four", "b/five"):
        store.put(key, b"12345")
    assert keys(store, "a/b/") == ["a/b/one", "a/b/two"]
    assert keys(store, "a/b") == ["a/b/one", "a/b/two", "a/bc/three"]
    assert keys(store, "a/b/t") == ["a/b/two"]
    assert keys(store, "") == ["a/b/one", "a/b/two", "a/bc/three", "a/four", "b/five"]
    assert keys(store, "nothing/there/") == []


def test_list_tells_size_and_time(store: ObjectStore) -> None:
    store.put(KEY, b"12345")
    (info,) = store.list(KEY)
    assert info.size == 5
    assert abs(info.modified - datetime.now(UTC)) < timedelta(minutes=1)


def test_list_goes_on_beyond_one_page_of_s3(store: ObjectStore) -> None:
    names = [f"many/{number:04}" for number in range(1050)]
    with ThreadPoolExecutor(16) as writers:
        list(writers.map(lambda key: store.put(key, b""), names))
    assert keys(store, "many/") == names


def test_folders_are_the_names_right_below_a_prefix(store: ObjectStore) -> None:
    for key in ("a/b/one", "a/c/d/two", "a/three", "e/four"):
        store.put(key, b"")
    assert sorted(store.folders("")) == ["a", "e"]
    assert sorted(store.folders("a/")) == ["b", "c"]
    assert sorted(store.folders("nothing/")) == []


def test_the_check_passes_and_leaves_nothing(store: ObjectStore) -> None:
    store.check()
    assert keys(store) == []
