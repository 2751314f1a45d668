"""The fake API server keeps what holds of every one; so its tests mean something."""

from __future__ import annotations

import pytest

from tests.kube.contract import Contract


class TestFake(Contract):
    @pytest.fixture
    def place(self) -> str:
        return "somewhere"
