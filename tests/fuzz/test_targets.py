"""What the fuzzers begin with, and what they have found before, breaks nothing; nor does what is near it."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

MUTATIONS = 150
INTERESTING = (
    b"\0",
    b"\xff" * 4,
    b"\xff" * 8,
    b"..",
    b"/",
    b'"',
    b"{",
    b"]",
    b"-1",
    b"99999999999999999999",
    b"\n",
)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return something near: bits flipped, parts cut out, repeated, or in the place of others."""
    result = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(result))
        end = min(len(result), at + chance.randint(1, 16))
        match chance.randrange(4):
            case 0 if at < len(result):
                result[at] ^= 1 << chance.randrange(8)
            case 1:
                del result[at:end]
            case 2:
                result[at:at] = result[at:end] * chance.randint(1, 8)
            case _:
                result[at:end] = chance.choice(INTERESTING)
    return bytes(result)


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_what_was_found_break_nothing(target: str) -> None:
    for seed in seeds(target):
        TARGETS[target](seed)


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_near_the_seeds_breaks_nothing(target: str) -> None:
    known = list(seeds(target))
    for number in range(MUTATIONS):
        chance = random.Random(number)
        TARGETS[target](mutated(chance.choice(known), chance))
