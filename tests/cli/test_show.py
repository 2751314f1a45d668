"""`crikpy show`: the processes as a tree, and where the memory is, within 80 columns."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import yaml

from crikpy.cli.processes import tree
from crikpy.model.manifest import Sizes
from tests.cli.machines import PROGRAM
from tests.cli.shelf import OLDER, Shelf, Typist, process
from tests.integration.capsules import PATIENCE_S
from tests.store.images import MIB

FAMILY = (
    process(100, 1, "python", anonymous=60, file=20),
    process(101, 100, "loader", anonymous=10, shared=30),
    process(102, 101, "helper", anonymous=20),
    process(103, 100, "writer", anonymous=20, file=20),
)


def test_processes_stand_below_their_parents() -> None:
    drawn = [f"{branch}{each.command}" for branch, each in tree(FAMILY)]
    assert drawn == ["python", "├─ loader", "│  └─ helper", "└─ writer"]


def test_a_process_whose_parent_is_not_there_stands_at_the_left() -> None:
    drawn = [f"{branch}{each.command}" for branch, each in tree((*FAMILY, process(200, 7, "orphan")))]
    assert drawn[-1] == "orphan"


def test_bars_show_how_large_each_process_is_and_of_what(shelf: Shelf, typed: Typist) -> None:
    shelf.put(OLDER, processes=FAMILY)
    shown = typed("show", "train", "--store", shelf.url)
    assert shown.err == ""
    bar = next(line for line in shown.out.splitlines() if line.startswith("python "))
    assert bar.split()[1:] == ["100", "1", "80.0", "MiB", "█" * 15 + "▒" * 5, "44", "%"]
    assert "180.0 MiB: █ 110.0 MiB anonymous  ▒ 40.0 MiB of files  ░ 30.0 MiB shared" in shown.out


def test_the_image_is_told_apart_into_zeros_what_was_stored_before_and_what_is_new(
    shelf: Shelf, typed: Typist
) -> None:
    sizes = Sizes(
        image_bytes=100 * MIB, zero_bytes=50 * MIB, reused_bytes=25 * MIB, stored_bytes=9 * MIB, chunks=3
    )
    shelf.put(OLDER, sizes=sizes)
    out = typed("show", "train", "--store", shelf.url).out
    assert "100.0 MiB: ░ 50.0 MiB zeros  ▒ 25.0 MiB stored before  █ 25.0 MiB new" in out
    assert "░" * 30 + "▒" * 15 + "█" * 15 in out


def test_a_checkpoint_without_processes_or_images_is_shown_without_bars(shelf: Shelf, typed: Typist) -> None:
    shelf.put(OLDER)
    shown = typed("show", "train", "--store", shelf.url)
    assert (shown.status, shown.err) == (0, "")
    assert "PROCESS" not in shown.out
    assert "█" not in shown.out


def test_everything_fits_80_columns(shelf: Shelf, typed: Typist, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    deep = [process(100 + n, 99 + n, "a-long-name-of-15", anonymous=2000, shared=3000) for n in range(12)]
    shelf.put(OLDER, processes=deep)
    out = typed("show", "train", "--store", shelf.url).out
    assert max(map(len, out.splitlines())) <= 80
    assert out.count("9.8 GiB") == 0
    assert out.count("4.9 GiB") == 12


def test_yaml_says_what_json_says(shelf: Shelf, typed: Typist) -> None:
    shelf.put(OLDER, processes=FAMILY)
    as_json = typed("show", "train", "--store", shelf.url, "--output", "json").out
    as_yaml = typed("show", "train", "--store", shelf.url, "-o", "yaml").out
    assert yaml.safe_load(as_yaml) == json.loads(as_json)
    assert as_yaml.startswith("format: 1\n")


def test_the_name_that_the_table_had_before_still_works(shelf: Shelf, typed: Typist) -> None:
    shelf.put(OLDER)
    old, new = (typed("show", "train", "--store", shelf.url, "--output", form) for form in ("text", "table"))
    assert old == new
    assert old.status == 0


def test_a_terminal_that_knows_no_bars_is_shown_marks_and_no_error(shelf: Shelf) -> None:
    shelf.put(OLDER, processes=FAMILY)
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PATH": os.environ["PATH"]}
    words = (PROGRAM, "show", "train", "--store", shelf.url)
    shown = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "?" * 20 in shown.stdout
