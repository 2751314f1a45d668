"""Prints digits of pi one by one, from a spigot whose integers grow (Gibbons, 2006)."""

import itertools
import sys


def digits():
    """Yield them."""
    q, r, t, k, m, x = 1, 0, 1, 1, 3, 3
    while True:
        if 4 * q + r - t < m * t:
            yield m
            q, r, m = 10 * q, 10 * (r - m * t), (10 * (3 * q + r)) // t - 10 * m
        else:
            q, r, t, k, m, x = q * k, (2 * q + r) * x, t * x, k + 1, (q * (7 * k + 2) + r * x) // (t * x), x + 2


for number, digit in enumerate(itertools.islice(digits(), int(sys.argv[1])), 1):
    print(number, digit, flush=True)
