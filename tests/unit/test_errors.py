"""The tree of errors: what is drawn is what is there, and no two can be mistaken for one another."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from crikpy import errors, names
from crikpy.errors import CrikpyError

_BRANCH = re.compile(r"(?P<bars>[│ ]*)[├└]── (?P<name>\w+)(?: {2,}(?P<says>.*))?")
_SHELLS_OWN = range(125, 256)


def _descendants(parent: type[CrikpyError]) -> list[type[CrikpyError]]:
    """Return the subclasses that the package itself defines, at any depth."""
    children = [child for child in parent.__subclasses__() if child.__module__.startswith(errors.__name__)]
    return [found for child in children for found in (child, *_descendants(child))]


ALL: list[type[CrikpyError]] = [CrikpyError, *_descendants(CrikpyError)]


def _drawn() -> dict[str, str]:
    """Read the docstring's drawing: class → parent."""
    ancestors = {-1: "CrikpyError"}
    found: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        if match := _BRANCH.fullmatch(line.removeprefix("    ")):
            depth = len(match["bars"]) // 4
            ancestors[depth] = match["name"]
            found[match["name"]] = ancestors[depth - 1]
    return found


def test_the_drawn_tree_is_the_tree_of_the_classes() -> None:
    assert _drawn() == {kind.__name__: kind.__base__.__name__ for kind in ALL[1:] if kind.__base__}


def test_every_exit_status_is_its_classs_own() -> None:
    assert [status for status, times in Counter(kind.exit_code for kind in ALL).items() if times > 1] == []


@pytest.mark.parametrize("kind", ALL[1:])
def test_an_exit_status_means_nothing_else(kind: type[CrikpyError]) -> None:
    assert kind.exit_code > 1
    assert kind.exit_code != names.EXIT_CHECKPOINTED
    assert kind.exit_code not in _SHELLS_OWN


def test_every_reason_is_its_classs_own() -> None:
    assert [reason for reason, times in Counter(kind.reason for kind in ALL).items() if times > 1] == []


@pytest.mark.parametrize("kind", ALL)
def test_a_reason_is_one_word_of_kubernetes(kind: type[CrikpyError]) -> None:
    assert re.fullmatch(r"([A-Z][a-z]+)+", kind.reason)


@pytest.mark.parametrize("kind", ALL)
def test_a_class_says_what_it_means(kind: type[CrikpyError]) -> None:
    assert kind.__doc__


def test_only_what_may_pass_is_tried_again() -> None:
    assert not CrikpyError.retryable
    assert errors.StoreUnavailableError.retryable
    assert not errors.IntegrityError.retryable
    assert not errors.CheckpointClaimedError.retryable


def test_an_error_reads_as_message_and_remedy() -> None:
    fault = errors.NodeError("no CRIU", remedy="install it", detail="a log")
    assert str(fault) == "no CRIU (install it)"
    assert (fault.message, fault.remedy, fault.detail) == ("no CRIU", "install it", "a log")


def test_an_error_without_a_remedy_reads_as_its_message() -> None:
    assert str(errors.NodeError("no CRIU")) == "no CRIU"
