"""Annotations of pods: what they take, and that every bad one is named with what is allowed."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy import names
from crikpy.errors import AnnotationError
from crikpy.kube.annotations import ALLOWED, opted_in, parse_options, unknown_annotations
from crikpy.model.pods import OnRebalance, OnRestoreFailure, PodOptions
from crikpy.model.saving import Mode, SaveOptions, signal_name


def write_options(options: PodOptions) -> dict[str, str]:
    """Return annotations that ask for these options."""
    notes = {
        names.CONTAINERS: ",".join(options.containers),
        names.ON_REBALANCE: options.on_rebalance.value,
        names.EXCLUDE_VOLUMES: ", ".join(options.excluded_volumes),
        names.RESTORE_FAILURE: options.restore_failure.value,
        names.KEEP: str(options.keep),
        names.RECREATE: "true" if options.recreate else "false",
    }
    if options.interval_s is not None:
        minutes, seconds = divmod(int(options.interval_s), 60)
        notes[names.INTERVAL] = f"{minutes // 60}h{minutes % 60}m{seconds}s"
    if options.priority is not None:
        notes[names.PRIORITY] = str(options.priority)
    return notes


LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
LISTS = st.lists(LABELS, unique=True, max_size=4).map(tuple)
OPTIONS = st.builds(
    PodOptions,
    containers=LISTS,
    interval_s=st.none() | st.integers(60, 365 * 86400).map(float),
    on_rebalance=st.sampled_from(OnRebalance),
    priority=st.none() | st.integers(-(2**31), 2**31 - 1),
    excluded_volumes=LISTS,
    restore_failure=st.sampled_from(OnRestoreFailure),
    keep=st.integers(1, 100),
    recreate=st.booleans(),
)


def test_how_a_job_wants_to_be_saved_is_read() -> None:
    found = parse_options(
        {
            names.MODE: "application",
            names.HOOK_TIMEOUT: "1m30s",
            names.SIGNAL_BEFORE: "usr1",
            names.SIGNAL_WAIT: "3s",
            names.SIGNAL_AFTER: "SIGUSR2",
            names.SIGNAL_RESTORED: "SIGRTMIN+2",
            names.APPLICATION_SIGNAL: "SIGINT",
            names.APPLICATION_DIRECTORY: "/data//run/, /more",
        }
    ).saving
    assert found == SaveOptions(
        mode=Mode.APPLICATION,
        hook_timeout_s=90.0,
        signal_before=signal.SIGUSR1,
        signal_wait_s=3.0,
        signal_after=signal.SIGUSR2,
        signal_restored=signal.SIGRTMIN + 2,
        application_signal=signal.SIGINT,
        application_directories=("/data/run", "/more"),
    )
    assert signal_name(found.signal_restored) == "SIGRTMIN+2"


def test_a_job_that_saves_itself_has_to_say_where() -> None:
    with pytest.raises(AnnotationError, match=names.APPLICATION_DIRECTORY):
        parse_options({names.MODE: "application"})


@given(OPTIONS)
def test_options_written_as_annotations_are_read_back(options: PodOptions) -> None:
    assert parse_options(write_options(options)) == options


def test_no_annotations_are_the_defaults() -> None:
    assert parse_options({"other.io/keep": "many"}) == PodOptions()


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("1h30m", 5400), ("90s", 90), ("1h1m1s", 3661), ("60m", 3600)]
)
def test_durations_are_read_as_go_writes_them(text: str, seconds: float) -> None:
    assert parse_options({names.INTERVAL: text}).interval_s == seconds


def test_a_list_may_have_blanks_and_repeat_itself() -> None:
    assert parse_options({names.CONTAINERS: " a, b ,a"}).containers == ("a", "b")


def test_an_empty_list_names_nothing() -> None:
    assert parse_options({names.CONTAINERS: "", names.EXCLUDE_VOLUMES: " "}) == PodOptions()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (names.OPT_IN, "yes"),
        (names.OPT_IN, "True"),
        (names.CONTAINERS, "a,,b"),
        (names.CONTAINERS, "Main"),
        (names.CONTAINERS, "../x"),
        (names.INTERVAL, ""),
        (names.INTERVAL, "30"),
        (names.INTERVAL, "30s"),
        (names.INTERVAL, "5m30"),
        (names.INTERVAL, "-30m"),
        (names.INTERVAL, "999999h"),
        (names.INTERVAL, "\u0663\u0660m"),
        (names.ON_REBALANCE, "Migrate"),
        (names.ON_REBALANCE, ""),
        (names.PRIORITY, "high"),
        (names.PRIORITY, "1.5"),
        (names.PRIORITY, "2147483648"),
        (names.PRIORITY, "1_000"),
        (names.EXCLUDE_VOLUMES, "a b"),
        (names.RESTORE_FAILURE, "retry"),
        (names.KEEP, "0"),
        (names.KEEP, "101"),
        (names.RECREATE, "1"),
        (names.HOOK_TIMEOUT, "0s"),
        (names.HOOK_TIMEOUT, "11m"),
        (names.SIGNAL_WAIT, "5"),
        (names.SIGNAL_BEFORE, "SIGKILL"),
        (names.SIGNAL_BEFORE, "SIGTERM"),
        (names.SIGNAL_BEFORE, "10"),
        (names.SIGNAL_AFTER, "SIGSTOP"),
        (names.SIGNAL_AFTER, "SIGRTMIN+99"),
        (names.SIGNAL_RESTORED, "SIGSEGV"),
        (names.MODE, "criu"),
        (names.APPLICATION_SIGNAL, "SIGKILL"),
        (names.APPLICATION_DIRECTORY, "data"),
        (names.APPLICATION_DIRECTORY, "/data/../etc"),
        (names.APPLICATION_DIRECTORY, "/"),
        (names.APPLICATION_DIRECTORY, "/a,,/b"),
    ],
)
def test_a_bad_value_is_refused_with_the_annotation_and_what_is_allowed(name: str, text: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        parse_options({name: text})
    assert name in caught.value.message
    assert repr(text) in caught.value.message
    assert ALLOWED[name] in caught.value.message


def test_every_bad_value_is_named_at_once() -> None:
    with pytest.raises(AnnotationError) as caught:
        parse_options({names.KEEP: "0", names.RECREATE: "maybe", names.PRIORITY: "7"})
    assert names.KEEP in caught.value.message
    assert names.RECREATE in caught.value.message
    assert names.PRIORITY not in caught.value.message


def test_a_huge_value_is_quoted_in_part() -> None:
    with pytest.raises(AnnotationError) as caught:
        parse_options({names.KEEP: "9" * 100_000})
    assert len(caught.value.message) < 300


@given(st.dictionaries(st.sampled_from(sorted(ALLOWED)), st.text(), max_size=9))
def test_any_text_is_read_or_refused(notes: dict[str, str]) -> None:
    try:
        parse_options(notes)
    except AnnotationError as fault:
        assert any(name in fault.message for name in notes)


@pytest.mark.parametrize(
    ("notes", "wanted"), [({}, False), ({names.OPT_IN: "true"}, True), ({names.OPT_IN: "false"}, False)]
)
def test_only_true_opts_in(notes: dict[str, str], wanted: bool) -> None:
    assert opted_in(notes) is wanted


def test_opting_in_by_another_word_is_refused() -> None:
    with pytest.raises(AnnotationError, match='"true" or "false"'):
        opted_in({names.OPT_IN: "on"})


def test_unknown_annotations_are_found_with_the_one_that_was_meant() -> None:
    notes = {
        "crikpy.io/intervall": "30m",
        "crikpy.io/x": "1",
        "other.io/y": "1",
        names.INJECTED: "a",
    } | dict.fromkeys(ALLOWED, "")
    assert unknown_annotations(notes) == (("crikpy.io/intervall", names.INTERVAL), ("crikpy.io/x", ""))
