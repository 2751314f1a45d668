"""Which URLs are stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from crikpy.errors import UsageError
from crikpy.settings import StoreSettings
from crikpy.store.opening import open_store


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/var/lib/crikpy-store", "file:///var/lib/crikpy-store"),
        ("file:///var/lib/crikpy-store", "file:///var/lib/crikpy-store"),
        ("file:///with%20space", "file:///with%20space"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/prefix/", "s3://bucket/a/prefix"),
    ],
)
def test_directories_and_buckets_are_stores(url: str, shown: str) -> None:
    assert open_store(url, StoreSettings()).url == shown


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relative/path",
        "s3://",
        "s3:///prefix",
        "gs://bucket/x",
        "http://host/x",
        "file://host/x",
        "s3://k:s@b/x",
    ],
)
def test_anything_else_is_refused_with_the_forms_that_are_accepted(url: str) -> None:
    with pytest.raises(UsageError, match=r"s3://BUCKET/PREFIX, file:///DIRECTORY or an absolute path"):
        open_store(url, StoreSettings())


def test_opening_touches_nothing(tmp_path: Path) -> None:
    open_store(str(tmp_path / "store"), StoreSettings())
    assert list(tmp_path.iterdir()) == []
