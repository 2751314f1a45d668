"""A store in an S3 bucket; boto3's errors do not leave this module.

Credentials come from boto3's own chain and never from settings of ours. boto3 repeats single requests itself.
What it cannot know is handled here: the answer to a conditional write may get lost, so that its repetition is
refused because of our own first attempt; then the object is read back. Chunks need no multipart upload; they go by
obstore (bulk.py) first, and by boto3 when that fails.

Needs of the server: PutObject with If-None-Match and If-Match (AWS S3 since November 2024).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any, Final, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from crikpy import __version__
from crikpy.aio.clock import Deadline
from crikpy.errors import ObjectNotFoundError, SettingsError
from crikpy.model.workload import Workload
from crikpy.settings import StoreSettings
from crikpy.store import s3_errors
from crikpy.store.base import ObjectInfo, probe
from crikpy.store.bulk import BulkClient, is_signed
from crikpy.store.layout import is_chunk_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

_ATTEMPTS: Final = 4
_CONNECT_TIMEOUT_S: Final = 5.0
_CONFLICT_TRIES: Final = 6
_CONFLICT_NAP_S: Final = 0.1
_SKEWED_NAP_S: Final = 0.5
_SPARE_CONNECTIONS: Final = 4
_SENT_AT_ONCE: Final = 256 * 1024


class S3Store:
    """Objects below a prefix of a bucket."""

    def __init__(self, bucket: str, prefix: str, settings: StoreSettings) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._settings = settings
        self._lock = threading.Lock()
        self._made: tuple[S3Client, BulkClient] | None = None
        self._encryption: dict[str, Any] = {}
        if settings.sse:
            self._encryption["ServerSideEncryption"] = settings.sse
        if settings.sse_key:
            self._encryption["SSEKMSKeyId"] = settings.sse_key

    @property
    def url(self) -> str:
        """Return the bucket and prefix as a URL."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def get(self, key: str) -> bytes | memoryview:
        """Return the object's bytes."""
        if is_chunk_key(key) and (data := self._bulk.get(self._prefix + key)) is not None:
            return data
        return self.get_tagged(key)[0]

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        """Return the object's bytes and its ETag; a body that breaks off is asked for again."""
        with self._translated(key):
            for _ in range(_ATTEMPTS - 1):
                answer = self._ask_for(key)
                with contextlib.suppress(*s3_errors.BROKEN_BODY):
                    return _take(answer)
            return _take(self._ask_for(key))

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write the object."""
        if is_chunk_key(key) and self._bulk.put(self._prefix + key, data):
            return
        with self._translated(key):
            self._put(key, data)

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        """Write the object with `If-None-Match: *`."""
        with self._translated(key):
            return self._put_if(key, data, IfNoneMatch="*") is not None

    def replace(self, key: str, data: bytes | memoryview, tag: str) -> str | None:
        """Write the object with `If-Match`."""
        with self._translated(key):
            return self._put_if(key, data, IfMatch=tag)

    def delete(self, key: str) -> None:
        """Delete the object."""
        with self._translated(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects, page by page."""
        with self._translated(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for item in page.get("Contents", []):
                    key = item["Key"].removeprefix(self._prefix)
                    if not key.endswith("/"):
                        yield ObjectInfo(key=key, size=item["Size"], modified=item["LastModified"])

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the common prefixes, page by page."""
        with self._translated(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix, Delimiter="/"
            )
            for page in pages:
                for item in page.get("CommonPrefixes", []):
                    yield item["Prefix"].removeprefix(self._prefix + prefix).rstrip("/")

    def make_ready(self, workload: Workload, deadline: Deadline) -> None:
        """Do nothing: S3 is all that is needed."""

    def check(self) -> None:
        """Try what everything rests on with an object of no meaning."""
        probe(self)

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            if self._made is not None:
                self._made[0].close()

    @property
    def _client(self) -> S3Client:
        return self._clients[0]

    @property
    def _bulk(self) -> BulkClient:
        return self._clients[1]

    @property
    def _clients(self) -> tuple[S3Client, BulkClient]:
        """Return both, made at their first use so that opening a store cannot fail for want of credentials."""
        with self._lock:
            if self._made is None:
                session = boto3.session.Session()
                client = _make_client(self._settings, session)
                self._made = client, BulkClient(self._bucket, self._settings, session, client)
            return self._made

    def _ask_for(self, key: str) -> GetObjectOutputTypeDef:
        return self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)

    def _put(self, key: str, data: bytes | memoryview, **conditions: Any) -> str:
        body = cast("IO[bytes]", _Body(data))
        answer = self._client.put_object(
            Bucket=self._bucket, Key=self._prefix + key, Body=body, **conditions, **self._encryption
        )
        return answer["ETag"]

    def _put_if(self, key: str, data: bytes | memoryview, **condition: str) -> str | None:
        """Return the new tag, or None when the condition did not hold for our first attempt."""
        conflicts = 0
        while True:
            try:
                return self._put(key, data, **condition)
            except ClientError as fault:
                if s3_errors.is_conflict(fault) and conflicts < _CONFLICT_TRIES:
                    conflicts += 1
                    time.sleep(_CONFLICT_NAP_S * conflicts)
                elif s3_errors.is_refused_condition(fault):
                    repeated = fault.response["ResponseMetadata"]["RetryAttempts"] or conflicts
                    return self._tag_if_ours(key, data) if repeated else None
                else:
                    raise

    def _tag_if_ours(self, key: str, data: bytes | memoryview) -> str | None:
        try:
            found, tag = self.get_tagged(key)
        except ObjectNotFoundError:
            return None
        return tag if found == data else None

    @contextlib.contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as fault:
            raise s3_errors.translate(fault, url=self.url, key=key) from fault


class _Body:
    """A file that gives out large pieces of memory uncopied; http.client alone would send 8 KiB at a time."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._offset = 0

    def __len__(self) -> int:
        return len(self._data)

    def read(self, size: int | None = None) -> memoryview:
        """Return the next piece, larger than asked for: no caller of botocore's or http.client's minds."""
        end = len(self._data) if size is None or size < 0 else self._offset + max(size, _SENT_AT_ONCE)
        piece = self._data[self._offset : end]
        self._offset += len(piece)
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move, as botocore does before it repeats a request and to learn the length."""
        self._offset = offset + (0, self._offset, len(self._data))[whence]
        return self._offset

    def tell(self) -> int:
        """Return the position."""
        return self._offset


def _take(answer: GetObjectOutputTypeDef) -> tuple[bytes, str]:
    with contextlib.closing(answer["Body"]) as body:
        return body.read(), answer["ETag"]


def _make_client(settings: StoreSettings, session: boto3.session.Session) -> S3Client:
    config = Config(
        connect_timeout=min(_CONNECT_TIMEOUT_S, settings.request_timeout_s),
        read_timeout=settings.request_timeout_s,
        max_pool_connections=settings.transfers + _SPARE_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        tcp_keepalive=True,
        # Chunks carry a hash of their own and TLS protects the way: a second hash would cost more than both.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={
            "addressing_style": "path" if settings.path_style else "auto",
            "payload_signing_enabled": is_signed(settings, settings.endpoint),
        },
        user_agent_extra=f"crikpy/{__version__}",
    )
    try:
        client = session.client(
            "s3", endpoint_url=settings.endpoint or None, region_name=settings.region or None, config=config
        )
    except ValueError as fault:
        raise SettingsError(f"no S3 client: {fault}", remedy="check CRIKPY_STORE_ENDPOINT") from fault
    client.meta.events.register_last("before-call.s3", _expect_nothing)
    client.meta.events.register_first("needs-retry.s3", cast("Callable[..., None]", _sign_anew))
    return client


def _expect_nothing(params: dict[str, Any], **_: Any) -> None:
    """Send bodies at once: waiting for `100 Continue` costs a round trip for each chunk."""
    params["headers"].pop("Expect", None)


def _sign_anew(response: tuple[object, dict[str, Any]] | None, attempts: int, **_: Any) -> float | None:
    """Say after how long boto3 shall make a request again that was refused for the time of its signature."""
    refused = response is not None and s3_errors.is_skewed(response[1])
    return _SKEWED_NAP_S if refused and attempts < _ATTEMPTS else None
