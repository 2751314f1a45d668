"""The host's side of moves between the host and the virtual machine of hack/vm."""

from __future__ import annotations

from tests.cli.conftest import folder, machine, settings

__all__ = ["folder", "machine", "settings"]
