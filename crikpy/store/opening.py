"""From a URL to a store: the only place that knows which kinds there are."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from crikpy.errors import UsageError
from crikpy.settings import StoreSettings
from crikpy.store.base import ObjectStore
from crikpy.store.local import LocalStore

_FORMS = "s3://BUCKET/PREFIX, file:///DIRECTORY or an absolute path"


def open_store(url: str, settings: StoreSettings) -> ObjectStore:
    """Return the store of that URL; nothing is reached before its first use, see ObjectStore.check.

    Raises:
        UsageError: there is no such kind of store.
        SettingsError: it is to be sealed, and its keys cannot be read.
    """
    store = _open(url, settings)
    if not settings.key_file:
        return store
    # Imported here, as boto3 below: who does not need it need not wait for it.
    from crikpy.store.sealing import SealedStore, read_keys

    return SealedStore(store, read_keys(Path(settings.key_file)))


def _open(url: str, settings: StoreSettings) -> ObjectStore:
    if url.startswith("/"):
        return LocalStore(Path(url))
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path.startswith("/"):
        return LocalStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc and not (parts.query or parts.fragment or "@" in parts.netloc):
        # boto3 takes a third of a second to import, which a directory need not pay for.
        from crikpy.store.s3 import S3Store

        return S3Store(parts.netloc, parts.path.strip("/"), settings)
    raise UsageError(f"{url!r} is not the URL of a store", remedy=f"use {_FORMS}")
