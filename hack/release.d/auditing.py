"""Asks advisory services whether a locked package has a known vulnerability; hack/audit calls it.

A machine that reaches no such service is no reason to fail: then one line says that nothing was audited. What a
service does know fails the audit, unless a person has allowed it, with a reason, until a day.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import locks

_ALLOWED = Path(__file__).with_name("audit-allowed.toml")
_SECONDS = 180
_SERVICES = (["pypi"], ["osv"])


@dataclass(frozen=True)
class Allowed:
    """A vulnerability that a person has looked at.

    Attributes:
        package: whose it is.
        id: how the advisory, or an alias of it, is named.
        until: the last day on which it is allowed.
        reason: why it does no harm here.
    """

    package: str
    id: str
    until: dt.date
    reason: str


@dataclass(frozen=True)
class Finding:
    """A vulnerability of a locked package, under all of its names."""

    package: str
    version: str
    ids: tuple[str, ...]
    fixed_in: str

    def is_of(self, entry: Allowed) -> bool:
        """Tell whether this is what somebody has looked at."""
        return entry.package == self.package and entry.id in self.ids

    def __str__(self) -> str:
        return f"{self.package} {self.version}: {', '.join(self.ids)}, fixed in {self.fixed_in or 'no release'}"


def allowed(path: Path) -> list[Allowed]:
    """Return the entries of an allow list.

    Raises:
        ValueError: one lacks a word, or has one too many.
    """
    entries = []
    for told in tomllib.loads(path.read_text()).get("allowed", []):
        if told.keys() != {"package", "id", "until", "reason"} or not told["reason"].strip():
            raise ValueError(f"{path}: each entry needs package, id, until and reason, and no more: {told}")
        if type(told["until"]) is not dt.date:
            raise ValueError(f"{path}: until is a day, such as 2026-12-31: {told}")
        entries.append(Allowed(**told))
    return entries


def rounds(pins: list[locks.Pin]) -> list[dict[str, str]]:
    """Share out versions by package: of two versions of one, each in a round of its own, as pip-audit wants it."""
    found: list[dict[str, str]] = []
    for name, version in dict.fromkeys((pin.name, pin.version) for pin in pins):
        place = next((each for each in found if name not in each), None)
        if place is None:
            found.append(place := {})
        place[name] = version
    return found


def answers(versions: dict[str, str], service: list[str]) -> list[dict[str, Any]]:
    """Return what a service says of each package; of none if it could not be asked."""
    with TemporaryDirectory() as folder:
        listed = Path(folder) / "pins"
        listed.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()))
        command = [sys.executable, "-m", "pip_audit", "--format=json", "--progress-spinner=off", "--desc=off"]
        command += [
            "--aliases=on",
            "--no-deps",
            "--disable-pip",
            f"--requirement={listed}",
            "--vulnerability-service",
        ]
        try:
            done = subprocess.run(
                [*command, *service], capture_output=True, text=True, timeout=_SECONDS, check=False
            )
            told: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
        except (subprocess.TimeoutExpired, ValueError, KeyError):
            return []
    return told


def findings(told: list[dict[str, Any]]) -> list[Finding]:
    return [
        Finding(
            each["name"],
            each["version"],
            tuple(sorted({vuln["id"], *vuln["aliases"]})),
            ", ".join(vuln["fix_versions"]),
        )
        for each in told
        for vuln in each.get("vulns", ())
    ]


def judge(found: list[Finding], entries: list[Allowed], today: dt.date) -> list[Finding]:
    """Say what is allowed, what is so no longer and what need not be; return what is not allowed."""
    bad = []
    for each in found:
        entry = next((entry for entry in entries if each.is_of(entry)), None)
        if entry and today <= entry.until:
            print(f"audit: allowed until {entry.until}: {each}: {entry.reason}")
            continue
        bad.append(each)
        print(f"audit: allowed until {entry.until}, which is over: {each}" if entry else f"audit: {each}")
    for entry in entries:
        if not any(each.is_of(entry) for each in found):
            print(f"audit: {entry.package} has {entry.id} no longer: take it out of the allow list")
    return bad


def main() -> str | None:
    """Audit; return what is to be told if it failed."""
    parser = argparse.ArgumentParser(prog="hack/audit")
    parser.add_argument(
        "--osv-url", help="the advisory service to ask, by OSV's protocol, instead of the usual ones"
    )
    parser.add_argument("--allowed", type=Path, default=_ALLOWED)
    parser.add_argument(
        "lock", type=Path, nargs="*", default=[locks.FOLDER / "packages.lock", locks.FOLDER / "tools.lock"]
    )
    options = parser.parse_args()
    entries = allowed(options.allowed)
    batches = rounds([pin for path in options.lock for pin in locks.pins(path)])
    for service in [["osv", "--osv-url", options.osv_url]] if options.osv_url else _SERVICES:
        told = [each for batch in batches for each in answers(batch, service)]
        known = [each for each in told if "skip_reason" not in each]
        if known:
            print(f"audit: {service[0]} knows {len(known)} packages of {sum(map(len, batches))}")
            bad = judge(findings(known), entries, dt.datetime.now(dt.UTC).date())
            return f"audit: {len(bad)} known vulnerabilities" if bad else None
    print("audit: no advisory service can be reached from here; nothing was audited")
    return None


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(f"audit: {error}")
