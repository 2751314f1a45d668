"""Which notices tell of one event, and which of several is in force."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.model.notices import InterruptionNotice, Trigger, foremost

NOW = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
NOTICES = st.builds(
    lambda number, trigger, after_s: InterruptionNotice(
        id=f"notice-{number}",
        trigger=trigger,
        source="test",
        instance="",
        deadline=None if after_s is None else NOW + timedelta(seconds=after_s),
        action="",
        seen=NOW,
    ),
    st.integers(0, 9),
    st.sampled_from(Trigger),
    st.none() | st.integers(0, 1000),
)


def spot(after_s: float | None = 120, **changes: object) -> InterruptionNotice:
    deadline = None if after_s is None else NOW + timedelta(seconds=after_s)
    notice = InterruptionNotice(
        id="spot",
        trigger=Trigger.SPOT_INTERRUPTION,
        source="imds",
        instance="",
        deadline=deadline,
        action="terminate",
        seen=NOW,
    )
    return replace(notice, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (spot(125), True),
        (spot(None), True),
        (spot(120 + 299), True),
        (spot(120 + 301), False),
        (spot(trigger=Trigger.REBALANCE_RECOMMENDATION), False),
        (spot(trigger=Trigger.DRAIN), False),
    ],
)
def test_what_differs_by_seconds_is_one_event(other: InterruptionNotice, same: bool) -> None:
    assert spot().is_same_event(other) is same
    assert other.is_same_event(spot()) is same


def test_what_stops_jobs_comes_before_a_drain_and_that_before_a_recommendation() -> None:
    order = [
        spot(60, id="sooner"),
        spot(id="later"),
        spot(None, id="untimed", trigger=Trigger.NODE_SHUTDOWN),
        spot(None, id="drain", trigger=Trigger.DRAIN),
        spot(None, id="rebalance", trigger=Trigger.REBALANCE_RECOMMENDATION),
    ]
    for number, expected in enumerate(order):
        found = foremost(reversed(order[number:]))
        assert found is not None
        assert found.id == expected.id


def test_maintenance_lies_ahead_until_its_lead_begins() -> None:
    maintenance = spot(3600, trigger=Trigger.SCHEDULED_EVENT)
    lead = timedelta(minutes=15)
    assert maintenance.lies_ahead(NOW, lead)
    assert not maintenance.lies_ahead(NOW + timedelta(minutes=45), lead)
    assert not spot(3600).lies_ahead(NOW, lead)


@given(st.lists(NOTICES, max_size=5, unique_by=lambda notice: notice.id))
def test_the_one_in_force_is_one_of_them_and_knows_its_aliases(
    notices: list[InterruptionNotice],
) -> None:
    found = foremost(notices)
    if not notices:
        assert found is None
        return
    assert found is not None
    assert found.id in {notice.id for notice in notices}
    assert not any(notice.stops and not found.stops for notice in notices)
    for notice in notices:
        assert found.known_as(notice.id) is found.is_same_event(notice)
    assert not found.known_as("")


@given(st.permutations([spot(), spot(121, id="queue"), spot(None, id="taint")]))
def test_the_order_in_which_they_come_does_not_matter(notices: list[InterruptionNotice]) -> None:
    found = foremost(notices)
    assert found is not None
    assert (found.id, found.aliases) == ("spot", frozenset({"queue", "taint"}))
