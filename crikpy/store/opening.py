"""From a URL to a store: the only place that knows which kinds there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from crikpy.errors import SettingsError, UsageError
from crikpy.settings import StoreSettings
from crikpy.store.base import ObjectStore
from crikpy.store.local import LocalStore

if TYPE_CHECKING:
    from crikpy.store.keys import KeySource

_FORMS = "s3://BUCKET/PREFIX, file:///DIRECTORY or an absolute path"


def open_store(url: str, settings: StoreSettings) -> ObjectStore:
    """Return the store of that URL; nothing is reached before its first use, see ObjectStore.check.

    Raises:
        UsageError: there is no such kind of store.
        SettingsError: it is to be sealed, and its keys cannot be read, or two ways to have keys are named.
    """
    store = _open(url, settings)
    keys = _keys(store, settings)
    if keys is None:
        return store
    # Imported here, as boto3 below: who does not need it need not wait for it.
    from crikpy.store.sealing import SealedStore

    return SealedStore(store, keys)


def _keys(store: ObjectStore, settings: StoreSettings) -> KeySource | None:
    if settings.key_file and settings.kms_key:
        raise SettingsError(
            "CRIKPY_STORE_KEY_FILE and CRIKPY_STORE_KMS_KEY are both set",
            remedy="unset one of them: keys come from a file or from KMS",
        )
    if settings.key_file:
        from crikpy.store.keys import HeldKeys, read_keys

        return HeldKeys(read_keys(Path(settings.key_file)))
    if settings.kms_key:
        from crikpy.store.keyring import Keyrings
        from crikpy.store.kms import Kms

        return Keyrings(store, Kms(settings), settings)
    return None


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
