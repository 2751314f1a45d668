"""`crikpy diff`: what came, went and grew between two checkpoints, and what they share in the store."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml

from crikpy.errors import CheckpointNotFoundError, UsageError
from crikpy.model.manifest import OpenFile
from tests.cli.shelf import NEWER, OLDER, Shelf, Typist, process
from tests.store.images import MIB, noise

NEWEST = "20250131T140000Z-00000003"


@pytest.fixture
def two(shelf: Shelf) -> Shelf:
    """A store with two checkpoints of a job: one process went, one came, one grew; libc and the kernel changed."""
    libc = OpenFile(path="/lib/libc.so.6", size=100, build_id="aa")
    old = shelf.put(
        OLDER,
        images={"pages-1.img": noise(8 * MIB, 1)},
        processes=(process(9, 1, "main", anonymous=10), process(10, 9, "gone", anonymous=5)),
        open_files=(libc, OpenFile(path="/old", size=1)),
    )
    shelf.put(
        NEWER,
        images={"pages-1.img": noise(8 * MIB, 1), "pages-2.img": noise(4 * MIB, 2)},
        processes=(process(9, 1, "main", anonymous=14), process(11, 9, "came", anonymous=5)),
        open_files=(replace(libc, size=120, build_id="bb"), OpenFile(path="/new", size=1)),
        compatibility=replace(old.compatibility, kernel="6.19", cpu_features=("avx", "sse2")),
    )
    return shelf


def test_the_newest_two_are_compared_unless_others_are_named(two: Shelf, typed: Typist) -> None:
    told = typed("diff", "train", "--store", two.url)
    assert (told.status, told.err) == (0, "")
    assert told.out.splitlines()[:2] == [f"- {OLDER}", f"+ {NEWER}"]
    two.put(NEWEST)
    assert typed("diff", "train", OLDER, "--store", two.url).out.splitlines()[:2] == [f"- {OLDER}", f"+ {NEWEST}"]
    named = typed("diff", "train", NEWER, OLDER, "--store", two.url).out
    assert named.splitlines()[:2] == [f"- {NEWER}", f"+ {OLDER}"]


def test_people_read_what_came_went_and_grew(two: Shelf, typed: Typist) -> None:
    lines = typed("diff", "train", "--store", two.url).out.splitlines()
    for line in (
        "image        8.0 MiB → 12.0 MiB (+4.0 MiB)",
        "of the image 8.0 MiB shared with the first, 0 B zeros, 4.0 MiB neither",
        "kernel: 6.18 → 6.19",
        "cpu features: (none) → avx",
        "- process 10 gone, 5.0 MiB",
        "+ process 11 came, 5.0 MiB",
        "~ process 9 main: 10.0 MiB → 14.0 MiB (+4.0 MiB) resident",
        "- file /old",
        "+ file /new, 1 B",
        "~ file /lib/libc.so.6: 100 B → 120 B (+20 B), another build",
    ):
        assert line in lines, "\n".join(lines)


def test_programs_read_the_same(two: Shelf, typed: Typist) -> None:
    facts = json.loads(typed("diff", "train", "--store", two.url, "--output", "json").out)
    assert facts["shared"] == {
        "image_bytes": 12 * MIB,
        "zero_bytes": 0,
        "shared_bytes": 8 * MIB,
        "other_bytes": 4 * MIB,
    }
    assert [each["command"] for each in facts["processes_new"]] == ["came"]
    assert facts["processes"][0]["resident"] == {"before": 10 * MIB, "after": 14 * MIB}
    assert yaml.safe_load(typed("diff", "train", "--store", two.url, "-o", "yaml").out) == facts


def test_a_checkpoint_does_not_differ_from_itself(two: Shelf, typed: Typist) -> None:
    facts = json.loads(typed("diff", "train", NEWER, NEWER, "--store", two.url, "--output", "json").out)
    assert not any(facts[key] for key in ("command", "processes_gone", "processes_new", "files", "needs"))
    assert facts["shared"]["shared_bytes"] == facts["shared"]["image_bytes"]


def test_one_checkpoint_alone_is_not_compared(shelf: Shelf, typed: Typist) -> None:
    shelf.put(OLDER)
    typed("diff", "train", "--store", shelf.url).require(CheckpointNotFoundError, "two complete checkpoints")
    typed("diff", "train", OLDER, "--store", shelf.url).require(UsageError, OLDER)
