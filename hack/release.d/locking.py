"""Writes the locks of Python packages, or says whether they are of this pyproject.toml; hack/python-lock calls it.

A check asks nobody, so that it does not fail because a newer version has appeared.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

import locks

_STAMP = "# Written by hack/python-lock for these requirements of pyproject.toml: "


def requirements() -> dict[str, list[str]]:
    """Return the requirements that each lock answers, by its name; an image can trace, too."""
    told = tomllib.loads((locks.ROOT / "pyproject.toml").read_text())
    ours = [*told["project"]["dependencies"], *told["project"]["optional-dependencies"]["telemetry"]]
    return {"packages": ours, "tools": told["build-system"]["requires"]}


def oldest_python() -> str:
    told = tomllib.loads((locks.ROOT / "pyproject.toml").read_text())
    return str(told["project"]["requires-python"]).removeprefix(">=")


def stamp(wanted: list[str]) -> str:
    """Return the first line of a lock: it changes with the requirements, and not with what an index holds."""
    return _STAMP + hashlib.sha256("\n".join(sorted(wanted)).encode()).hexdigest()


def check() -> list[str]:
    """Return what is wrong with the locks."""
    wrong = []
    for name, wanted in requirements().items():
        path = locks.FOLDER / f"{name}.lock"
        if not path.is_file() or path.read_text().partition("\n")[0] != stamp(wanted):
            wrong.append(f"daemonset/python/{name}.lock is not of this pyproject.toml: run hack/python-lock")
    return wrong


def write(name: str, wanted: list[str], options: list[str]) -> None:
    """Write one lock, beginning from the pins that it has."""
    path = locks.FOLDER / f"{name}.lock"
    with TemporaryDirectory() as folder:
        asked, resolved = Path(folder) / "requirements.in", Path(folder) / "resolved"
        asked.write_text("\n".join(wanted))
        if path.exists():
            resolved.write_text(path.read_text())
        command = ["uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-header"]
        command += ["--python-version", oldest_python(), "--only-binary", ":all:", *options]
        subprocess.run([*command, "--output-file", str(resolved), str(asked)], check=True, timeout=300)
        text = resolved.read_text().replace(f"-r {asked}", locks.OURS)
    path.write_text(f"{stamp(wanted)}\n{text}")


def index_options() -> list[str]:
    """Return uv's options for the index that pip uses, whose settings uv does not read."""
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    index = os.environ.get("PIP_INDEX_URL") or done.stdout.strip()
    return ["--default-index", index] if index else []


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit("\n".join(check()) or None)
    for each, asked_for in requirements().items():
        write(each, asked_for, [*sys.argv[1:], *index_options()])
