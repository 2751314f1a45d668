"""On a CPU without XSAVE, as some hypervisors give to their machines, jobs are saved and resumed as elsewhere."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.integration.capsules import ROOT

pytestmark = [
    pytest.mark.criu,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        "CRIKPY_TEST_VM" not in os.environ, reason="boots a virtual machine; hack/test vm asks for it"
    ),
]

_SCRIPT = """
! grep -qw xsave /proc/cpuinfo
exec /opt/venv/bin/python -m pytest -q -p no:cacheprovider -o timeout=300 -m vm tests/golden
"""


def test_what_a_release_has_saved_goes_on_and_is_saved_again() -> None:
    done = subprocess.run(
        ("hack/vm", "run", "--cpu", "Nehalem", "--timeout", "300", "--", "bash", "-ec", _SCRIPT),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
