"""Which chunk is fetched next and which must go: decisions only, on a clock of the test's own."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from crikpy.store.caching import ABANDONED_S, IDLE_S, ChunkCache

PLAIN = memoryview(b"plain")


def cache_of(images: Mapping[str, Sequence[str]], limit: int) -> ChunkCache:
    """Return a cache with room for so many chunks of the tests."""
    return ChunkCache(images, limit * len(PLAIN), largest=len(PLAIN))


def fetch_all(cache: ChunkCache, now: float = 0.0) -> list[str]:
    """Fetch until the cache wants no more."""
    fetched = []
    while (chunk := cache.next_fetch(now)) is not None:
        cache.arrived(chunk, PLAIN, now)
        fetched.append(chunk)
    return fetched


def test_chunks_are_fetched_ahead_in_order_up_to_the_limit() -> None:
    cache = cache_of({"a": ["1", "2"], "b": ["3", "4"]}, 3)
    assert fetch_all(cache) == ["1", "2", "3"]


def test_what_is_asked_for_comes_first() -> None:
    cache = cache_of({"a": ["1", "2"], "b": ["3"]}, 1)
    assert cache.get("b", 0, 0.0) is None
    assert cache.next_fetch(0.0) == "3"
    assert cache.arrived("3", PLAIN, 0.0)


def test_what_is_asked_for_takes_the_place_of_what_is_needed_last() -> None:
    cache = cache_of({"a": ["1", "2", "3"], "b": ["4"]}, 3)
    fetch_all(cache)
    assert cache.get("a", 0, 0.0) is not None
    assert cache.get("b", 0, 0.0) is None
    assert cache.next_fetch(0.0) == "4"
    cache.arrived("4", PLAIN, 0.0)
    assert cache.get("a", 1, 0.0) is not None
    assert cache.get("a", 2, 0.0) is None


def test_what_all_readers_have_passed_makes_room_at_once() -> None:
    cache = cache_of({"a": ["1", "2"], "b": ["1", "3"]}, 1)
    assert fetch_all(cache) == ["1"]
    cache.get("a", 0, 0.0)
    cache.passed("a", 0, 1)
    assert fetch_all(cache) == []
    cache.get("b", 0, 0.0)
    cache.passed("b", 0, 1)
    assert len(fetch_all(cache)) == 1


def test_what_follows_where_somebody_reads_is_fetched_before_the_rest() -> None:
    cache = cache_of({"a": ["1", "2"], "b": ["3", "4", "5"]}, 2)
    assert fetch_all(cache) == ["1", "2"]
    assert cache.get("b", 0, 0.0) is None
    assert fetch_all(cache) == ["3", "4"]


def test_what_was_asked_for_is_kept_until_it_is_picked_up_or_abandoned() -> None:
    cache = cache_of({"a": ["1"], "b": ["2"]}, 1)
    cache.get("a", 0, 0.0)
    assert cache.next_fetch(0.0) == "1"
    cache.arrived("1", PLAIN, 0.0)
    cache.get("b", 0, 0.0)
    assert cache.next_fetch(0.1) is None
    assert cache.next_fetch(ABANDONED_S + 0.1) == "2"


def test_what_nobody_touches_any_more_gives_way_to_what_is_fetched_ahead() -> None:
    cache = cache_of({"a": ["1", "2"], "b": ["3"]}, 1)
    fetch_all(cache)
    cache.get("a", 0, 0.0)
    assert cache.next_fetch(0.1) is None
    assert cache.next_fetch(IDLE_S + 0.1) == "2"


def test_many_small_chunks_have_the_room_of_few_large_ones() -> None:
    """Images read side by side, each from small chunks in turn, as after some checkpoints with few changes."""
    names, rounds = "abcdefgh", 50
    chunks = {name: [f"{name}{number}" for number in range(6)] * rounds for name in names}
    cache = ChunkCache(chunks, 30 * 100, largest=100)
    fetched = 0
    for index in range(6 * rounds):
        for name in names:
            while cache.get(name, index, 0.0) is None:
                chunk = cache.next_fetch(0.0)
                assert chunk is not None
                cache.arrived(chunk, PLAIN, 0.0)
                fetched += 1
            cache.passed(name, index, index + 1)
    assert fetched <= 2 * 6 * len(names)


@given(
    st.dictionaries(
        st.sampled_from("abcdef"), st.lists(st.sampled_from("0123456789"), min_size=1, max_size=8), min_size=1
    ),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_readers_in_any_order_get_every_chunk_within_the_limit(
    images: Mapping[str, Sequence[str]], limit: int, chance: random.Random
) -> None:
    cache = cache_of(images, limit)
    positions = dict.fromkeys(images, 0)
    fetching: list[str] = []
    now = 0.0
    for _ in range(10_000):
        now += 0.05
        while len(fetching) < 2 and (chunk := cache.next_fetch(now)) is not None:
            fetching.append(chunk)
        assert len(fetching) <= limit
        if fetching:
            cache.arrived(fetching.pop(), PLAIN, now)
        unfinished = [name for name, position in positions.items() if position < len(images[name])]
        if not unfinished:
            return
        name = chance.choice(unfinished)
        if cache.get(name, positions[name], now) is not None:
            cache.passed(name, positions[name], positions[name] + 1)
            positions[name] += 1
    raise AssertionError(f"stood still at {positions}")
