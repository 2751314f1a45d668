"""The bench on which the process of a release is resumed."""

from __future__ import annotations

from tests.integration.conftest import container_bench, folder, settings

__all__ = ["container_bench", "folder", "settings"]
