"""The S3 server of the tests itself: it leaves the machine as it found it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.s3_server import S3Server

pytestmark = pytest.mark.s3


def test_a_server_leaves_no_sockets_behind(tmp_path: Path) -> None:
    with S3Server(tmp_path / "s3") as server:
        port = server.endpoint.rpartition(":")[2]
        assert list(Path("/tmp").glob(f"seaweedfs-*-{port}.sock"))
    assert not list(Path("/tmp").glob(f"seaweedfs-*-{port}.sock"))
