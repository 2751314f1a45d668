"""How much of the node's memory a save may use beyond what any save uses; the rest is everybody else's."""

from __future__ import annotations

import psutil

from crikpy.settings import MIB, StoreSettings

_SPARED_BYTES = 512 * MIB
"""Of the node's free memory, for everybody else."""


def spare_bytes() -> int:
    """Return how much memory of the node is free, apart from that."""
    return max(0, psutil.virtual_memory().available - _SPARED_BYTES)


def staging_bytes(settings: StoreSettings) -> int:
    """Return how much memory a job that runs on may be read into, besides what any dump may use."""
    return min(settings.staging_bytes, spare_bytes())
