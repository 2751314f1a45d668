"""hack/audit fails on what an advisory service knows, unless that is allowed for now, and not on being alone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.advisories import Advisories

ROOT = Path(__file__).resolve().parents[2]
_HASH = "--hash=sha256:" + "0" * 64
_LOCK = f"""# a lock
good==1.0 \\
    {_HASH}
    # via crikpy
numpy==2.4 ; python_full_version < '3.12' \\
    {_HASH}
    # via crikpy
numpy==2.5 ; python_full_version >= '3.12' \\
    {_HASH}
    # via crikpy
"""


@pytest.fixture
def service() -> Iterator[Advisories]:
    with Advisories().serving() as advisories:
        yield advisories


def audit(folder: Path, url: str, allowed: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "lock").write_text(_LOCK)
    (folder / "allowed").write_text(allowed)
    command: list[str | Path] = [ROOT / "hack/audit", "--osv-url", url, "--allowed", folder / "allowed"]
    command.append(folder / "lock")
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def entry(until: str, named: str = "CVE-2026-1", reason: str = "Nothing calls it.") -> str:
    return f'[[allowed]]\npackage = "numpy"\nid = "{named}"\nuntil = {until}\nreason = "{reason}"\n'


def test_what_nothing_is_known_of_passes_and_every_version_was_asked_for(
    tmp_path: Path, service: Advisories
) -> None:
    done = audit(tmp_path, service.url)
    assert (done.returncode, done.stdout) == (0, "audit: osv knows 3 packages of 3\n"), done.stderr
    assert sorted(service.asked) == [("good", "1.0"), ("numpy", "2.4"), ("numpy", "2.5")]


def test_a_known_vulnerability_fails_and_is_named_with_its_mending(tmp_path: Path, service: Advisories) -> None:
    service.tells("numpy", "2.5", "GHSA-1", alias="CVE-2026-1", fixed="2.6")
    done = audit(tmp_path, service.url)
    assert done.returncode == 1
    assert "numpy 2.5: CVE-2026-1, GHSA-1, fixed in 2.6" in done.stdout


def test_what_is_allowed_by_any_of_its_names_passes_with_its_reason(tmp_path: Path, service: Advisories) -> None:
    service.tells("numpy", "2.5", "GHSA-1", alias="CVE-2026-1", fixed="2.6")
    done = audit(tmp_path, service.url, entry("9999-01-01"))
    assert done.returncode == 0, done.stdout
    assert "Nothing calls it." in done.stdout


@pytest.mark.parametrize(
    "allowed", [entry("2020-01-01"), entry("9999-01-01", named="CVE-2026-2")], ids=["over", "other"]
)
def test_what_is_allowed_no_longer_or_under_another_name_fails(
    tmp_path: Path, service: Advisories, allowed: str
) -> None:
    service.tells("numpy", "2.5", "GHSA-1", alias="CVE-2026-1", fixed="2.6")
    done = audit(tmp_path, service.url, allowed)
    assert (done.returncode, done.stderr) == (1, "audit: 1 known vulnerabilities\n")


def test_an_entry_that_nothing_needs_any_more_is_told_of(tmp_path: Path, service: Advisories) -> None:
    done = audit(tmp_path, service.url, entry("9999-01-01"))
    assert done.returncode == 0
    assert "numpy has CVE-2026-1 no longer" in done.stdout


@pytest.mark.parametrize(
    "allowed", [entry("9999-01-01", reason=" "), entry('"soon"')], ids=["no reason", "no day"]
)
def test_an_entry_without_a_reason_or_a_day_is_refused(tmp_path: Path, service: Advisories, allowed: str) -> None:
    done = audit(tmp_path, service.url, allowed)
    assert done.returncode == 1
    assert str(tmp_path / "allowed") in done.stderr
    assert not service.asked


def test_where_no_service_can_be_reached_one_line_says_so_and_nothing_fails(tmp_path: Path) -> None:
    done = audit(tmp_path, "http://127.0.0.1:1/v1/query")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "audit: no advisory service can be reached from here; nothing was audited\n"
