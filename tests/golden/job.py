"""What the job of the golden checkpoints (job.c) must have in its memory and its file, computed from its steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_SIZES: Final = (512, 6144, 6144, 6144)
"""Words of .data, .bss, the heap and the stack."""

_MIXED, _LETTER_STEPS = 64, 256
_WORD: Final = 2**64 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the job says when it is asked: how many steps it has made, and the hash over all of its memory."""

    steps: int
    hash: str

    @classmethod
    def read(cls, line: str) -> Proof:
        """Read the job's line."""
        word, steps, found = line.split()
        assert word == "proved"
        return cls(steps=int(steps), hash=found)


class Model:
    """The same job without its checkpoints."""

    def __init__(self) -> None:
        self._steps = 0
        self._parts = [[0] * size for size in _SIZES]
        self._parts[0][0] = 1

    def proof_at(self, steps: int) -> Proof:
        """Return what the job must say after as many steps; they never become fewer."""
        while self._steps < steps:
            self._step()
        return Proof(steps=steps, hash=f"{self._hash():x}")

    def _step(self) -> None:
        steps, memory = self._steps, self._parts[self._steps % len(self._parts)]
        at = steps * 2654435761 & _WORD
        total = float(steps % 1000003)
        for _ in range(_MIXED):
            at = at * 6364136223846793005 + 1442695040888963407 & _WORD
            total = total * 0.5 + float(at >> 40)
            place = (at >> 33) % len(memory)
            memory[place] = memory[place] + (at ^ int(total)) & _WORD
        self._steps += 1

    def _hash(self) -> int:
        found = 0xCBF29CE484222325
        for part in self._parts:
            for word in part:
                found = (found ^ word) * 0x100000001B3 & _WORD
        return found


def letters_at(steps: int) -> str:
    """Return what the job has written into its file when it makes its step of that number."""
    return "".join(chr(ord("a") + number % 26) for number in range((steps - 1) // _LETTER_STEPS + 1))
