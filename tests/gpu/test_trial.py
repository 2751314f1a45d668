"""The trial for machines with GPUs says what is missing where there is none, and believes no wrong number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024 * 1024


def test_a_machine_without_a_gpu_is_told_all_that_it_lacks(tmp_path: Path) -> None:
    nothing = {"CRIKPY_GPU_DRIVER_PROC": str(tmp_path), "CRIKPY_GPU_CUDA_CHECKPOINT": str(tmp_path / "none")}
    done = subprocess.run(
        (ROOT / "hack/gpu-trial", "--python", "/bin/false"),
        env={**os.environ, **nothing},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 3
    for words in ("NVIDIA driver", "cuda-checkpoint", "PyTorch"):
        assert words in done.stderr


def _steps(count: int, first: int = 1) -> str:
    numbers, lines = list(range(1, MIB // 8 + 1)), []
    for step in range(1, count + 1):
        numbers = [number * 48271 % (2**31 - 1) for number in numbers]
        lines.append(f"step {step} {sum(numbers)}")
    return "\n".join(lines[first - 1 :]) + "\n"


@pytest.mark.parametrize(("second", "status"), [(_steps(4, 3), 0), (_steps(4, 2), 1), (_steps(4, 4), 1)])
def test_lost_or_repeated_steps_are_not_those_of_one_job(tmp_path: Path, second: str, status: int) -> None:
    (tmp_path / "first").write_text(f"hello\n{_steps(2)}")
    (tmp_path / "second").write_text(second)
    words = (sys.executable, ROOT / "hack/gpu-trial.d/proof.py", "1", tmp_path / "first", tmp_path / "second")
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
