"""Whatever goes wrong, somebody is told what to do, and a script can tell the cases apart."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from crikpy import errors
from crikpy.cli.failing import print_error


def kinds(kind: type[errors.CrikpyError] = errors.CrikpyError) -> Iterator[type[errors.CrikpyError]]:
    """Yield every class of errors."""
    yield kind
    for lower in kind.__subclasses__():
        yield from kinds(lower)


def test_every_exit_status_means_one_class() -> None:
    statuses = [kind.exit_code for kind in kinds()]
    assert len(set(statuses)) == len(statuses)
    assert all(0 < status < 126 and status != 75 for status in statuses)


@pytest.mark.parametrize("kind", list(kinds()))
def test_an_error_without_a_remedy_of_its_own_says_what_to_do(
    kind: type[errors.CrikpyError], capsys: pytest.CaptureFixture[str]
) -> None:
    print_error(kind("it broke", detail="why\nand how"), as_json=False)
    what, remedy, *detail = capsys.readouterr().err.splitlines()
    assert what == "crikpy: it broke"
    assert remedy.removeprefix("crikpy: what to do: ") not in {"", remedy}
    assert detail == ["  | why", "  | and how"]


def test_a_remedy_of_its_own_is_told_instead(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(errors.StoreError("it broke", remedy="mend it"), as_json=False)
    assert capsys.readouterr().err == "crikpy: it broke\ncrikpy: what to do: mend it\n"


def test_programs_get_the_same_as_an_object_like_a_record_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(errors.StoreFullError("it broke", detail="why"), as_json=True)
    facts = json.loads(capsys.readouterr().err)
    assert facts.pop("remedy") and facts.pop("time")
    assert (facts.pop("level"), facts.pop("logger")) == ("error", "crikpy")
    facts.pop("component", "")  # of a command that was run in this process before, if any was
    assert facts == {"error": "StoreFull", "message": "it broke", "detail": "why", "exit_code": 53}
