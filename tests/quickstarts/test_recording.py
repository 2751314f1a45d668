"""hack/record draws what a command said and when, and README's pictures ask nothing of other hosts."""

from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_PICTURES = sorted((ROOT / "docs/images").glob("*.svg"))
_SVG = "{http://www.w3.org/2000/svg}"


def record(output: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [ROOT / "hack/record", "--output", output, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def rows(picture: Path) -> list[str]:
    """The text of each row, by the rule that lets it appear."""
    found: dict[str, str] = {}
    for text in ET.parse(picture).iter(f"{_SVG}text"):
        clip = text.attrib["clip-path"]
        found[clip] = found.get(clip, "") + (text.text or "")
    return [row.replace("\xa0", " ").strip() for row in found.values()]


def times(picture: Path) -> list[float]:
    return [float(found) for found in re.findall(r"appear 1ms ([0-9.]+)s both", picture.read_text())]


def test_each_line_appears_when_it_came_and_no_pause_is_long(tmp_path: Path) -> None:
    picture = tmp_path / "a.svg"
    assert record(picture, "--say", "words", "--", "sh", "-c", "echo one; sleep 3; echo '  <two>'").returncode == 0
    assert rows(picture) == ["$ words", "one", "<two>"]
    prompt, one, two = times(picture)
    assert prompt == 0 < one
    assert two - one == pytest.approx(2.0)


def test_a_line_that_is_too_long_goes_on_in_rows_that_appear_with_it(tmp_path: Path) -> None:
    picture = tmp_path / "a.svg"
    assert record(picture, "--", "seq", "-s", " ", "1", "100").returncode == 0
    assert " ".join(rows(picture)[1:]) == " ".join(map(str, range(1, 101)))
    assert len(times(picture)) == len(rows(picture)) > 3
    assert len(set(times(picture)[1:])) == 1


def test_what_comes_after_the_last_line_wanted_is_left_out(tmp_path: Path) -> None:
    picture = tmp_path / "a.svg"
    assert record(picture, "--until", "^2", "--", "seq", "4").returncode == 0
    assert rows(picture)[1:] == ["1", "2"]


def test_a_command_that_fails_leaves_no_picture(tmp_path: Path) -> None:
    done = record(tmp_path / "a.svg", "--", "sh", "-c", "echo one; exit 7")
    assert done.returncode == 7
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("picture", _PICTURES, ids=lambda path: str(path.name))
def test_a_picture_of_the_documentation_asks_nothing_of_other_hosts(picture: Path) -> None:
    text = picture.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
    ET.parse(picture)
    assert not re.findall(r"https?://|//[a-z]|@import|<script|href=", text)


def test_the_recording_of_the_demo_tells_of_a_whole_move() -> None:
    said = rows(ROOT / "docs/images/demo.svg")
    assert said[0] == "$ ./hack/demo"
    assert re.fullmatch(r"\d+ losses, bit for bit those of an undisturbed run: none lost, none repeated", said[-1])
    for told in ("EC2 takes it away in 120 s", "committed: ", "is gone", "resumed: the job goes on"):
        assert sum(told in row for row in said) == 1, told
