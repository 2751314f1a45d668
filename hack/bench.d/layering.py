"""The root file systems of workloads, in layers that hack/bench.d/layers makes and keeps."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
MACHINE = Path("/")
_MAKE_S = 3600


def lower_of(packages: Sequence[str], python: Sequence[str]) -> list[Path]:
    """Make the layers of these Debian packages and Python requirements; return them, the uppermost first.

    Raises:
        subprocess.CalledProcessError: a layer could not be made; the script has said why.
    """
    layers = [_layer("base")]
    if packages:
        layers.append(_layer("debian", *packages))
    if python:
        layers.append(_layer("python", *python))
    return layers[::-1]


def _layer(*words: str) -> Path:
    done = subprocess.run(
        (HERE / "layers", *words), check=True, stdout=subprocess.PIPE, text=True, timeout=_MAKE_S
    )
    return Path(done.stdout.strip())
