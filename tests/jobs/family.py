"""A job of many processes: a tree, each with memory of its own, connected by pipes."""

from __future__ import annotations

import os
import sys

from tests.jobs import proving

_BRANCHES = 3


class Member:
    """A process with its share of the others below it; each count adds up what all of them have counted."""

    def __init__(self, size: int) -> None:
        self._counter = 0
        below = size - 1
        shares = [below // _BRANCHES + (1 if number < below % _BRANCHES else 0) for number in range(_BRANCHES)]
        self._links = [self._bear(share) for share in shares if share]

    def count(self) -> tuple[int, int]:
        """Count one more, here and in everybody below."""
        self._counter += 1
        for ask, _ in self._links:
            os.write(ask, b"?")
        size, total = 1, self._counter
        for _, answer in self._links:
            words = os.read(answer, 64).split()
            size, total = size + int(words[0]), total + int(words[1])
        return size, total

    def _bear(self, size: int) -> tuple[int, int]:
        there, ask = os.pipe()
        answer, back = os.pipe()
        if os.fork() == 0:
            os.close(ask)
            os.close(answer)
            member = Member(size)
            os.write(back, b"born")
            while os.read(there, 1):
                os.write(back, b"%d %d" % member.count())
            os._exit(0)
        os.close(there)
        os.close(back)
        proving.check_equal(os.read(answer, 4), b"born", "a member's first word")
        return ask, answer


def main() -> None:
    """Be as many processes as the first argument says."""
    proving.block()
    size = int(sys.argv[1])
    root = Member(size)
    proving.stand_by(lambda count: proving.check_equal(root.count(), (size, size * count), "size and sum"))


if __name__ == "__main__":
    main()
