"""Settings from an environment: every variable, its units, and every bad value at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy import settings
from crikpy.errors import SettingsError
from crikpy.settings import MIB, Settings


def _variables() -> Iterator[tuple[str, str, str, Any]]:
    """Yield each variable with its group, its field and its default."""
    defaults = Settings()
    for group in dataclasses.fields(Settings):
        values = getattr(defaults, group.name)
        for item in dataclasses.fields(values):
            name = f"CRIKPY_{group.name}_{item.name}".upper()
            yield name, group.name, item.name, getattr(values, item.name)


VARIABLES = list(_variables())
_OTHER: dict[type, tuple[str, object]] = {
    bool: ("{not}", None),
    int: ("17", 17),
    float: ("2.5", 2.5),
    Path: ("/somewhere/else", Path("/somewhere/else")),
    str: ("word", "word"),
}


def _read(name: str, text: str) -> object:
    group, item = next((group, item) for found, group, item, _ in VARIABLES if found == name)
    return getattr(getattr(settings.from_env({name: text}), group), item)


def test_an_empty_environment_gives_the_defaults() -> None:
    assert settings.from_env({}) == Settings()


@pytest.mark.parametrize(("name", "group", "item", "default"), VARIABLES, ids=[found[0] for found in VARIABLES])
def test_each_variable_sets_its_field_and_no_other(name: str, group: str, item: str, default: object) -> None:
    kind = next(kind for kind in _OTHER if isinstance(default, kind))
    text, value = (str(not default), not default) if kind is bool else _OTHER[kind]
    found = settings.from_env({name: text})
    assert getattr(getattr(found, group), item) == value
    changed = dataclasses.replace(getattr(Settings(), group), **{item: value})
    assert found == dataclasses.replace(Settings(), **{group: changed})


def test_every_bad_value_is_named_in_one_message() -> None:
    bad = {
        "CRIKPY_STORE_TRANSFERS": "many",
        "CRIKPY_STORE_PATH_STYLE": "perhaps",
        "CRIKPY_CRIU_BUNDLE": "relative/path",
        "CRIKPY_NOTICES_POLL_INTERVAL_S": "-1",
        "CRIKPY_RUN_LEASE": "60",
    }
    with pytest.raises(SettingsError) as caught:
        settings.from_env({**bad, "CRIKPY_STORE_REGION": "eu-west-1"})
    assert all(name in caught.value.message for name in bad)
    assert "REGION" not in caught.value.message
    assert caught.value.remedy


def test_a_bad_value_is_quoted_with_what_it_must_be() -> None:
    with pytest.raises(SettingsError, match=r"^CRIKPY_STORE_TRANSFERS='many': must be a whole number above 0"):
        settings.from_env({"CRIKPY_STORE_TRANSFERS": "many"})


@pytest.mark.parametrize("name", ["CRIKPY_STORE_ENDPOINTS", "CRIKPY_RUN_", "CRIKPY_CRIU_BUNDLE_DIR"])
def test_an_unknown_variable_of_ours_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: no such setting"):
        settings.from_env({name: "x"})


@pytest.mark.parametrize("name", ["PATH", "CRIKPY_STORE", "CRIKPY", "crikpy_run_lease_s", "MY_CRIKPY_RUN_X"])
def test_variables_of_others_are_left_alone(name: str) -> None:
    assert settings.from_env({name: "x"}) == Settings()


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("4096", 4096), ("3Ki", 3072), ("64Mi", 64 * MIB), ("2Gi", 2048 * MIB), ("007", 7)],
)
def test_sizes_may_have_a_binary_unit(text: str, value: int) -> None:
    assert _read("CRIKPY_STORE_MEMORY_BYTES", text) == value


@pytest.mark.parametrize(
    "text",
    ["", "0", "0Ki", "-1", "-1Mi", "1.5Gi", "1e9", "1K", "1 Mi", " 1", "1_000", "1MiB", "Mi", "٣", "9" * 19],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="must be a whole number above 0"):
        settings.from_env({"CRIKPY_STORE_MEMORY_BYTES": text})


def test_only_a_number_whose_default_is_negative_may_be() -> None:
    assert _read("CRIKPY_STORE_COMPRESSION", "-7") == -7
    assert _read("CRIKPY_STORE_COMPRESSION", "0") == 0
    with pytest.raises(SettingsError, match="CRIKPY_CRIU_COLLECT_TIMEOUT_S='0'"):
        settings.from_env({"CRIKPY_CRIU_COLLECT_TIMEOUT_S": "0"})


@pytest.mark.parametrize("text", ["", "0", "-3", "nan", "inf", "-inf", "soon", "1s"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="must be a number above 0"):
        settings.from_env({"CRIKPY_RUN_LEASE_S": text})


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("TRUE", True), ("1", True), ("yes", True), ("false", False), ("No", False), ("0", False)],
)
def test_switches_have_a_few_words(text: str, value: bool) -> None:
    assert _read("CRIKPY_NOTICES_IMDS_ENABLED", text) is value


@pytest.mark.parametrize("text", ["", "on", "off", "2", "truetrue"])
def test_other_words_do_not_switch(text: str) -> None:
    with pytest.raises(SettingsError, match="must be true or false"):
        settings.from_env({"CRIKPY_NOTICES_IMDS_ENABLED": text})


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.from_env({}).run.lease_s = 1.0  # type: ignore[misc]  # what the test is about


@given(number=st.integers(min_value=1, max_value=10**15), unit=st.sampled_from(["", "Ki", "Mi", "Gi"]))
def test_any_size_is_read_as_it_is_written(number: int, unit: str) -> None:
    factor = 1024 ** ["", "Ki", "Mi", "Gi"].index(unit)
    assert _read("CRIKPY_STORE_MEMORY_BYTES", f"{number}{unit}") == number * factor


@given(environ=st.dictionaries(st.sampled_from([found[0] for found in VARIABLES]), st.text()))
def test_any_values_are_settings_or_are_refused_by_name(environ: dict[str, str]) -> None:
    try:
        settings.from_env(environ)
    except SettingsError as fault:
        refused = [name for name in environ if f"{name}=" in fault.message]
        assert refused
        settings.from_env({name: text for name, text in environ.items() if name not in refused})


@pytest.mark.parametrize(("text", "expected"), [("0", 0), ("2Gi", 2 << 30)])
def test_a_bound_that_may_be_none_can_be_set_to_none(text: str, expected: int) -> None:
    assert settings.from_env({"CRIKPY_STORE_STAGING_BYTES": text}).store.staging_bytes == expected
