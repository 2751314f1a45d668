"""Debian's promtool, as the tests call it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "controller/components/prometheus/rules.yaml"
DASHBOARD = ROOT / "controller/components/grafana/crikpy.json"
PROGRAMS = Path(os.environ.get("CRIKPY_TEST_PROMETHEUS", "/nowhere"))


def promtool(*words: str | Path, given: str = "") -> str:
    """Return what promtool says; AssertionError with that when it complains."""
    done = subprocess.run(
        [PROGRAMS / "promtool", *words], input=given, capture_output=True, text=True, timeout=60, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said
