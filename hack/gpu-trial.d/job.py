"""The job of hack/gpu-trial: counts on the GPU by whole numbers, so that each step can be checked against the CPU.

Argument: mebibytes on the GPU. Prints `step N SUM` each second, where SUM is that of all numbers there.
"""

import sys
import time

import torch

FACTOR, MODULUS = 48271, 2**31 - 1


def main() -> None:
    """Multiply for ever."""
    count = int(sys.argv[1]) * 1024 * 1024 // 8
    numbers = torch.arange(1, count + 1, dtype=torch.int64, device="cuda")
    step = 0
    while True:
        numbers = numbers * FACTOR % MODULUS
        step += 1
        print("step", step, int(numbers.sum()), flush=True)
        time.sleep(1)


if __name__ == "__main__":
    main()
