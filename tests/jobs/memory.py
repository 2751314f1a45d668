"""A job that holds much memory which no compression makes small, and proves each byte by its hash.

Arguments: mebibytes in all, and mebibytes of them that change with each proof.
"""

from __future__ import annotations

import hashlib
import os
import sys

from tests.jobs import proving

MIB = 1024 * 1024


def main() -> None:
    """Fill the memory, then prove it."""
    proving.block()
    blocks = [bytearray(os.urandom(MIB)) for _ in range(int(sys.argv[1]))]
    changing = int(sys.argv[2])
    sums = [hashlib.blake2b(block).digest() for block in blocks]

    def prove(count: int) -> None:
        for number, block in enumerate(blocks):
            proving.check_equal(hashlib.blake2b(block).digest(), sums[number], f"mebibyte {number}")
        for number in range(changing):
            blocks[number] = bytearray(os.urandom(MIB))
            sums[number] = hashlib.blake2b(blocks[number]).digest()

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
