"""Payloads become notices, the same event always under the same id; anything else becomes a MetadataError."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crikpy.ec2.notices import SOURCES, Source, translate
from crikpy.errors import MetadataError
from crikpy.model.notices import InterruptionNotice, Trigger

SPOT, LIFECYCLE, SCHEDULED, REBALANCE = SOURCES
SEEN = datetime(2022, 7, 11, 17, 9, 44, tzinfo=UTC)
NOON = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)


def notices(source: Source, payload: object, *, instance: str = "i-1") -> tuple[InterruptionNotice, ...]:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return translate(source, text, instance=instance, seen=SEEN)


def event(**changes: object) -> dict[str, Any]:
    """An event as AWS shows it, with changes."""
    return {
        "NotBefore": "21 Jan 2019 09:00:43 GMT",
        "Code": "system-reboot",
        "Description": "scheduled reboot",
        "EventId": "instance-event-0d59937288b749b32",
        "NotAfter": "21 Jan 2019 09:17:23 GMT",
        "State": "active",
    } | changes


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
def test_a_spot_action_is_a_notice_with_its_deadline(action: str) -> None:
    (notice,) = notices(SPOT, {"action": action, "time": "2022-07-11T17:11:44Z"}, instance="i-7")
    assert notice == InterruptionNotice(
        id=notice.id,
        trigger=Trigger.SPOT_INTERRUPTION,
        source="imds:spot/instance-action",
        instance="i-7",
        deadline=datetime(2022, 7, 11, 17, 11, 44, tzinfo=UTC),
        action=action,
        seen=SEEN,
    )
    assert notice.final


def test_an_action_of_the_future_still_takes_the_machine_away() -> None:
    (notice,) = notices(SPOT, {"action": "relocate", "time": "2022-07-11T17:11:44Z", "more": [1]})
    assert notice.action == ""
    assert notice.deadline is not None


def test_a_rebalance_recommendation_has_no_deadline_and_is_not_final() -> None:
    (notice,) = notices(REBALANCE, {"noticeTime": "2020-11-05T08:22:00Z"})
    assert (notice.trigger, notice.deadline, notice.action) == (Trigger.REBALANCE_RECOMMENDATION, None, "")
    assert not notice.final


@pytest.mark.parametrize(
    ("code", "action"),
    [
        ("system-reboot", "reboot"),
        ("instance-reboot", "reboot"),
        ("instance-stop", "stop"),
        ("instance-retirement", "stop"),
        ("system-maintenance", ""),
    ],
)
def test_a_scheduled_event_is_due_when_it_may_begin(code: str, action: str) -> None:
    (notice,) = notices(SCHEDULED, [event(Code=code)])
    assert notice.deadline == datetime(2019, 1, 21, 9, 0, 43, tzinfo=UTC)
    assert (notice.trigger, notice.action) == (Trigger.SCHEDULED_EVENT, action)


def test_only_active_scheduled_events_are_notices() -> None:
    listed = [event(State=state, EventId=state) for state in ("completed", "active", "canceled")]
    assert len(notices(SCHEDULED, listed)) == 1
    assert notices(SCHEDULED, []) == ()


def test_a_finished_event_with_a_strange_time_spoils_nothing() -> None:
    listed = [event(State="completed", NotBefore="[Completed]"), event()]
    assert len(notices(SCHEDULED, listed)) == 1


def test_months_are_read_in_english_whatever_the_machine_speaks() -> None:
    names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    listed = [event(NotBefore=f"1 {name} 2030 00:00:00 GMT", EventId=name) for name in names]
    months = [found.deadline.month for found in notices(SCHEDULED, listed) if found.deadline]
    assert months == list(range(1, 13))


def test_only_terminated_of_all_lifecycle_states_is_a_notice() -> None:
    (notice,) = notices(LIFECYCLE, "Terminated\n")
    assert (notice.trigger, notice.deadline, notice.action) == (Trigger.NODE_SHUTDOWN, None, "terminate")
    for state in ("InService", "Detached", "Standby", "Warmed:Hibernated", "Warmed:Stopped", "Warmed:Terminated"):
        assert notices(LIFECYCLE, state) == ()


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_ids_tell_their_kind_and_fit_into_kubernetes_names(source: Source) -> None:
    payloads: dict[str, object] = {
        SPOT.name: {"action": "terminate", "time": "2022-07-11T17:11:44Z"},
        REBALANCE.name: {"noticeTime": "2020-11-05T08:22:00Z"},
        SCHEDULED.name: [event()],
        LIFECYCLE.name: "Terminated",
    }
    (notice,) = notices(source, payloads[source.name])
    assert re.fullmatch(rf"{source.kind}-[0-9a-f]{{16}}", notice.id)


def test_an_id_is_that_of_the_meaning_not_of_the_bytes() -> None:
    spellings = (
        '{"action":"terminate","time":"2030-01-02T12:00:00Z"}',
        '{ "time": "2030-01-02T12:00:00.000+00:00",\n "action": "terminate" }',
        '{"action":"terminate","time":"2030-01-02T14:00:00+02:00","since":"later release"}',
    )
    assert len({notices(SPOT, text)[0].id for text in spellings}) == 1
    renamed = notices(SCHEDULED, [event(Description="[Rescheduled] reboot", NotAfter="")])
    assert renamed[0].id == notices(SCHEDULED, [event()])[0].id


def test_an_id_never_changes_between_releases() -> None:
    # Objects in the cluster are named after it; an agent of the release before must find the same one.
    assert notices(LIFECYCLE, "Terminated")[0].id == "lifecycle-57f668cb65945449"
    assert notices(SPOT, {"action": "stop", "time": "2022-07-11T17:11:44Z"})[0].id == "spot-9638a667b11c3e60"


@given(
    told=st.sets(
        st.tuples(
            st.sampled_from(["i-1", "i-11", "i-2"]),
            st.sampled_from(["terminate", "stop", "hibernate"]),
            st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)),  # noqa: DTZ001 - hypothesis wants naive bounds
        ),
        min_size=2,
    )
)
def test_different_events_have_different_ids(told: set[tuple[str, str, datetime]]) -> None:
    ids = {
        notices(SPOT, {"action": action, "time": f"{time.isoformat()}Z"}, instance=instance)[0].id
        for instance, action, time in told
    }
    assert len(ids) == len(told)


def test_words_of_an_event_do_not_run_into_each_other() -> None:
    first = notices(SCHEDULED, [event(Code="system-reboot", EventId="x")])
    second = notices(SCHEDULED, [event(Code="system-reboo", EventId="tx")])
    assert first[0].id != second[0].id


def test_an_event_moved_to_another_time_is_a_new_one() -> None:
    moved = notices(SCHEDULED, [event(NotBefore="22 Jan 2019 09:00:43 GMT")])
    assert moved[0].id != notices(SCHEDULED, [event()])[0].id


@pytest.mark.parametrize(
    ("source", "payload"),
    [
        (SPOT, ""),
        (SPOT, "<html>"),
        (SPOT, "[]"),
        (SPOT, '{"action": "terminate"}'),
        (SPOT, '{"action": 7, "time": "2022-07-11T17:11:44Z"}'),
        (SPOT, '{"action": "terminate", "time": "2022-07-11T17:11:44"}'),
        (SPOT, '{"action": "terminate", "time": "0001-01-01T00:00:00+01:00"}'),
        (SPOT, '{"action": "terminate", "time": "soon"}'),
        (SPOT, "[" * 60000),
        (REBALANCE, '{"noticeTime": 5}'),
        (SCHEDULED, "null"),
        (SCHEDULED, json.dumps([event(NotBefore="31 Feb 2019 09:00:43 GMT")])),
        (SCHEDULED, json.dumps([event(NotBefore="21 Mai 2019 09:00:43 GMT")])),
        (SCHEDULED, json.dumps([event(NotBefore="21 Jan 2019 09:00:43")])),
        (SCHEDULED, json.dumps([event(NotBefore="21 Jan 0000 09:00:43 GMT")])),
        (SCHEDULED, json.dumps([event(NotBefore="21 Jan 2019 24:00:43 GMT")])),
        (LIFECYCLE, ""),
        (LIFECYCLE, "<html>404</html>"),
        (LIFECYCLE, "Terminated InService"),
    ],
)
def test_what_aws_does_not_document_is_an_error_that_names_the_path(source: Source, payload: str) -> None:
    with pytest.raises(MetadataError, match=re.escape(source.path)) as caught:
        notices(source, payload)
    assert caught.value.detail == payload[:200]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["action", "time", "noticeTime", "Code", "State", "NotBefore", "EventId"]), inner
        )
    ),
    max_leaves=8,
)
_timelike = st.from_regex(r"\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", fullmatch=True)


@given(
    source=st.sampled_from(SOURCES),
    payload=st.one_of(
        st.text(),
        _json.map(json.dumps),
        st.datetimes(timezones=st.timezones()).map(
            lambda when: json.dumps({"action": "stop", "time": when.isoformat()})
        ),
        _timelike.map(lambda when: json.dumps([event(NotBefore=when)])),
    ),
)
@example(source=LIFECYCLE, payload="\ud800")
@example(source=SPOT, payload="\ud800")
@example(source=SCHEDULED, payload='[{"Code":"\\ud800","State":"active","NotBefore":"1 Jan 2030 00:00:00 GMT"}]')
def test_no_payload_raises_anything_but_a_metadata_error(source: Source, payload: str) -> None:
    with contextlib.suppress(MetadataError):
        for notice in notices(source, payload):
            assert notice.deadline is None or notice.deadline.tzinfo is UTC
