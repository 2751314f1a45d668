"""Says whether the lines of hack/gpu-trial.d/job.py are those of one job that was never disturbed.

    proof.py MEBIBYTES OUTPUT…

The outputs are those of its lives, in order. Computes every step anew on the CPU.
"""

import sys
from pathlib import Path

import numpy as np

FACTOR, MODULUS = 48271, 2**31 - 1


def main() -> int:
    """Compare; return the exit status."""
    lines = [line for path in sys.argv[2:] for line in Path(path).read_text().splitlines()]
    found = [tuple(map(int, line.split()[1:])) for line in lines if line.startswith("step ")]
    numbers = np.arange(1, int(sys.argv[1]) * 1024 * 1024 // 8 + 1, dtype=np.int64)
    expected = []
    for step in range(1, len(found) + 1):
        numbers = numbers * FACTOR % MODULUS
        expected.append((step, int(numbers.sum())))
    if found != expected:
        wrong = next((pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1]), None)
        print(f"not the steps of one job: {wrong}", file=sys.stderr)
        return 1
    print(f"{len(found)} steps, none lost, none repeated, each number right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
