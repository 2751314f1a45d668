"""The quick way for chunks in and out of a bucket: obstore, which keeps neither the interpreter nor a core busy.

Beside boto3 and never instead of it: endpoint, region and credentials are boto3's. It tries a request once;
whatever goes wrong is none of its business, since s3.py then makes the same request by boto3, which repeats it and
whose errors are understood. Chunks alone may go this way: what they are named by is their content, so that a
request made twice does no harm. Measured in docs/benchmarks.md; the only importer of obstore.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from crikpy.errors import SettingsError
from crikpy.settings import StoreSettings

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_s3 import S3Client
    from obstore.store import S3Config, S3Store

_log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S: Final = 5.0
_RESTS_AFTER: Final = 8
"""So many failures in a row say that this way does not lead there now, whatever the reason."""

_REST_S: Final = 60.0
"""After which one request finds out whether it does again."""

_CREDENTIALS_TTL: Final = timedelta(minutes=10)
"""boto3 renews what ends within ten minutes (botocore/credentials.py), so what it lends is good for so long."""


class BulkClient:
    """Puts and gets of one bucket; safe for many threads."""

    def __init__(
        self, bucket: str, settings: StoreSettings, session: boto3.session.Session, client: S3Client
    ) -> None:
        """Take what boto3 has found out; nothing is reached before the first request."""
        self._failures = 0
        self._rests_until = 0.0
        self._lock = threading.Lock()
        self._store = _open(bucket, settings, session, client)

    def put(self, key: str, data: bytes | memoryview) -> bool:
        """Write an object; False when it may not be there, for whatever reason."""
        if self._store is None or self._rests():
            return False
        try:
            self._store.put(key, data, use_multipart=False)
        except Exception as fault:  # noqa: BLE001 - boto3 makes the same request and finds out what it means
            self._failed(key, fault)
            return False
        self._failures = 0
        return True

    def get(self, key: str) -> memoryview | None:
        """Return an object's bytes; None when they could not be had, for whatever reason."""
        if self._store is None or self._rests():
            return None
        try:
            data = memoryview(self._store.get(key).bytes())
        except FileNotFoundError:
            return None
        except Exception as fault:  # noqa: BLE001 - boto3 makes the same request and finds out what it means
            self._failed(key, fault)
            return None
        self._failures = 0
        return data

    def _failed(self, key: str, fault: Exception) -> None:
        facts = {"key": key, "why": str(fault).partition("\n")[0]}
        _log.debug("a chunk goes by boto3", extra=facts)
        with self._lock:
            self._failures += 1
            if self._failures >= _RESTS_AFTER and time.monotonic() >= self._rests_until:
                self._rests_until = time.monotonic() + _REST_S
                _log.warning("chunks go by boto3 for a while, which is slower", extra=facts)

    def _rests(self) -> bool:
        return time.monotonic() < self._rests_until


def is_signed(settings: StoreSettings, endpoint: str) -> bool:
    """Say whether bodies are hashed for the signature.

    Raises:
        SettingsError: the setting is not one of its words.
    """
    match settings.sign_bodies:
        case "http":
            return endpoint.startswith("http://")
        case "always" | "never":
            return settings.sign_bodies == "always"
    raise SettingsError(f"CRIKPY_STORE_SIGN_BODIES={settings.sign_bodies!r}", remedy="use http, always or never")


def _open(
    bucket: str, settings: StoreSettings, session: boto3.session.Session, client: S3Client
) -> S3Store | None:
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Store

    try:
        return S3Store(
            bucket,
            config=_config(bucket, settings, client),
            client_options={
                "allow_http": True,
                "connect_timeout": timedelta(seconds=min(_CONNECT_TIMEOUT_S, settings.request_timeout_s)),
                "timeout": timedelta(seconds=settings.request_timeout_s),
            },
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=settings.request_timeout_s)},
            credential_provider=Boto3CredentialProvider(session, ttl=_CREDENTIALS_TTL),
        )
    except Exception as fault:  # noqa: BLE001 - without credentials, say; boto3 tells it better
        _log.debug("chunks go by boto3", extra={"why": str(fault)})
        return None


def _config(bucket: str, settings: StoreSettings, client: S3Client) -> S3Config:
    endpoint = client.meta.endpoint_url
    config: S3Config = {
        "region": client.meta.region_name,
        "unsigned_payload": not is_signed(settings, endpoint),
    }
    if settings.sse:
        config["server_side_encryption"] = settings.sse
    if settings.sse_key:
        config["sse_kms_key_id"] = settings.sse_key
    parts = urlsplit(endpoint)
    if settings.path_style or "." in bucket or _is_address(parts.hostname or ""):
        config["endpoint"] = endpoint
    else:
        config["endpoint"] = f"{parts.scheme}://{bucket}.{parts.netloc}"
        config["virtual_hosted_style_request"] = True
    return config


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
