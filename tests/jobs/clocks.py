"""A job that looks at its clocks: they never go back, and never leap by more than a move can last."""

from __future__ import annotations

import time

from tests.jobs import proving

_LONGEST_MOVE_S = 100.0
_CLOCKS = {"monotonic": time.CLOCK_MONOTONIC, "boottime": time.CLOCK_BOOTTIME}


def read() -> dict[str, float]:
    """Return the seconds of each clock."""
    return {name: time.clock_gettime(clock) for name, clock in _CLOCKS.items()}


def main() -> None:
    """Compare the clocks of one proof with those of the last."""
    last = read()

    def prove(count: int) -> None:
        now = read()
        for name, before in last.items():
            proving.check_equal(
                0 <= now[name] - before < _LONGEST_MOVE_S, True, f"{name}: {before} then {now[name]}"
            )
        last.update(now)

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
