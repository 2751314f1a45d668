"""What hack/docs looks for in the built site: requests to other hosts, and links without a target."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOOK = Path(__file__).resolve().parents[2] / "hack/docs.d/look.py"


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<script src="https://elsewhere.example/a.js"></script>', "asks https://elsewhere.example/a.js"),
        ('<img src="//elsewhere.example/a.png">', "asks //elsewhere.example/a.png"),
        ('<a href="away/">x</a>', "away/ leads nowhere"),
        ('<a href="#away">x</a>', "#away has no such anchor"),
    ],
)
def test_a_fault_of_a_built_page_is_named_and_fails(tmp_path: Path, body: str, fault: str) -> None:
    (tmp_path / "index.html").write_text(body)
    done = subprocess.run((sys.executable, LOOK, tmp_path), capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (1, f"index.html: {fault}\n")


def test_a_style_that_loads_from_elsewhere_fails(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text('@import "https://elsewhere.example/fonts.css";')
    done = subprocess.run((sys.executable, LOOK, tmp_path), capture_output=True, text=True, timeout=30)
    assert done.returncode == 1


def test_links_to_other_hosts_are_no_requests(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<h1 id="a">x</h1><a href="https://elsewhere.example/">x</a><a href="#a">y</a>'
    )
    done = subprocess.run((sys.executable, LOOK, tmp_path), capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout
