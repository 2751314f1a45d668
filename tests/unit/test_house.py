"""The house keeps its order: short files, one import package, pages made of the code that are current."""

from __future__ import annotations

import re
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

import crikpy
from crikpy.settings import from_env

ROOT = Path(__file__).resolve().parents[2]
_LONGEST_FILE = 400
_PYTHON = sorted(path for room in ("crikpy", "tests", "hack") for path in (ROOT / room).rglob("*.py"))


def test_no_file_is_longer_than_400_lines() -> None:
    sources = [*_PYTHON, *(ROOT / "daemonset").rglob("*.c")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources}
    assert not {name: length for name, length in lengths.items() if length > _LONGEST_FILE}


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert crikpy.__version__ == project["version"]


def test_only_crikpy_and_tests_are_import_packages() -> None:
    places = [path.relative_to(ROOT).parts[0] for path in ROOT.rglob("__init__.py")]
    assert {place for place in places if not place.startswith(".")} <= {"crikpy", "tests"}


def test_every_module_says_why_it_exists() -> None:
    modules = [path for path in _PYTHON if path.is_relative_to(ROOT / "crikpy")]
    assert not [str(path) for path in modules if not path.read_text().startswith('"""')]


@pytest.mark.parametrize(
    "program", ["settings-doc", "exit-statuses-doc", "annotations-doc", "troubleshooting-doc"]
)
def test_a_page_made_of_the_code_is_current(program: str) -> None:
    done = subprocess.run((ROOT / "hack" / program, "--check"), capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_the_settings_page_names_the_settings_that_there_are() -> None:
    named = re.findall(r"^\| `(CRIKPY_\w+)` ", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    settings = from_env({})
    known = [
        f"CRIKPY_{group.name}_{item.name}".upper()
        for group in fields(settings)
        for item in fields(getattr(settings, group.name))
    ]
    assert named == known


def test_threads_are_begun_by_one_module_so_that_their_records_say_what_they_are_about() -> None:
    # Jobs import the second one alone; the third lies below the first.
    own = {ROOT / f"crikpy/{name}.py" for name in ("aio/threads", "job", "tracing/__init__")}
    modules = [path for path in _PYTHON if path.is_relative_to(ROOT / "crikpy") and path not in own]
    bare = re.compile(r"\bthreading\.Thread\(|\bThreadPoolExecutor\(")
    assert not [str(path.relative_to(ROOT)) for path in modules if bare.search(path.read_text())]
