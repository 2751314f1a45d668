"""Directories that the tests of a capsule's files need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.capsule import trees


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """Lend a tmpfs, whose files have every kind of attribute and can be an overlay's layers."""
    place = tmp_path / "memory"
    place.mkdir()
    with trees.mounted("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(place)) as mounted:
        yield mounted


@pytest.fixture
def here(memory: Path) -> Path:
    """Return a directory `tree` of a capsule's root, to be captured."""
    place = memory / "here" / "tree"
    place.mkdir(parents=True)
    return place


@pytest.fixture
def there(memory: Path) -> Path:
    """Return another capsule's root."""
    place = memory / "there"
    place.mkdir()
    return place
