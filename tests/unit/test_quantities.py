"""Sizes, ages and lists are told to people in one way."""

from __future__ import annotations

import pytest

from crikpy.model.quantities import human_age, human_size, human_span, some_of


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 * 1024, "1.5 MiB"),
        (3 << 30, "3.0 GiB"),
        (1 << 52, "4096.0 TiB"),
    ],
)
def test_sizes_are_in_powers_of_1024(count: int, told: str) -> None:
    assert human_size(count) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-3.0, "0s"),
        (59.9, "59s"),
        (119.0, "119s"),
        (120.0, "2m"),
        (7199.0, "119m"),
        (7200.0, "2h"),
        (172800.0, "2d"),
    ],
)
def test_ages_are_in_the_largest_unit_of_which_there_are_two(seconds: float, told: str) -> None:
    assert human_age(seconds) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-3.0, "0 s"),
        (59.9, "59 s"),
        (60.0, "1 min 0 s"),
        (103.0, "1 min 43 s"),
        (3599.0, "59 min 59 s"),
        (12000.0, "3 h 20 min"),
        (200000.0, "2 d 7 h"),
    ],
)
def test_lengths_of_time_are_in_their_two_largest_units(seconds: float, told: str) -> None:
    assert human_span(seconds) == told


def test_of_a_long_list_some_are_named_and_the_rest_is_counted() -> None:
    assert [some_of(["a", "b", "c"][:count], 2) for count in range(4)] == ["", "a", "a, b", "a, b and 1 more"]
