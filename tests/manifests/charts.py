"""The chart as the real Helm renders it, and kustomizations as the real kubectl builds them, for tests of both."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "controller/chart"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "crikpy"


def helm_program() -> str:
    """Return the path of Helm, or skip with what is missing."""
    return _program(_CACHE / "helm/helm", "helm", "hack/helm builds one")


def kubectl_program() -> str:
    """Return the path of kubectl, or skip with what is missing."""
    return _program(_CACHE / "cluster/bin/kubectl", "kubectl", "hack/cluster build makes one")


def _program(ours: Path, name: str, hint: str) -> str:
    found = str(ours) if ours.exists() else shutil.which(name)
    if not found:
        pytest.skip(f"needs {name}: {hint}")
    return found


def helm(*words: str | Path, values: Json | None = None, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Helm with values; its own files go into a folder."""
    command: list[str | Path] = [helm_program(), *words]
    if values is not None:
        path = folder / "values.yaml"
        path.write_text(yaml.safe_dump(values))
        command += ["--values", path]
    homes = {f"HELM_{name}_HOME": str(folder / "helm") for name in ("CACHE", "CONFIG", "DATA")}
    return subprocess.run(command, env=os.environ | homes, capture_output=True, text=True, timeout=60)


def rendered(values: Json, folder: Path, *, namespace: str = "crikpy-system") -> list[Json]:
    """Return the objects of the chart, those of hooks included."""
    done = helm("template", "crikpy", CHART, "--namespace", namespace, values=values, folder=folder)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def kustomized(resources: list[str], components: list[str], folder: Path) -> list[Json]:
    """Return the objects of kustomizations of this repository, named by their folders."""
    kustomization = {
        "resources": [os.path.relpath(ROOT / name, folder) for name in resources],
        "components": [os.path.relpath(ROOT / name, folder) for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    done = subprocess.run(
        [kubectl_program(), "kustomize", str(folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))
