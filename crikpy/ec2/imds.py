"""The instance metadata service (IMDS), version 2 only.

Version 1 answers anybody who can make this machine send a GET, which is how credentials were stolen; so no GET
ever leaves here without a token. Nothing here knows what an answer means: crikpy.ec2.notices does.
Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Final

import aiohttp
import msgspec

from crikpy.errors import MetadataError
from crikpy.settings import NoticeSettings

TOKEN_HEADER: Final = "X-aws-ec2-metadata-token"  # noqa: S105 - the name of a header, not a secret
TTL_HEADER: Final = "X-aws-ec2-metadata-token-ttl-seconds"

_LONGEST_TTL_S = 21600
_RENEW_BEFORE_S = 15.0
_LARGEST_ANSWER = 64 * 1024

_HOP_LIMIT = (
    "in a container, raise HttpPutResponseHopLimit to 2 or run on the host network; the answer dies on the way"
)
_DISABLED = "enable it for this instance: HttpEndpoint=enabled in its metadata options"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this machine is.

    Attributes:
        instance: EC2 instance id, `i-0123456789abcdef0`.
        instance_type: such as `g5.2xlarge`.
        region: such as `eu-west-1`.
        zone: availability zone, such as `eu-west-1b`.
    """

    instance: str
    instance_type: str
    region: str
    zone: str


class _Document(msgspec.Struct, rename="camel"):
    """The fields that we read of the instance identity document."""

    instance_id: str
    instance_type: str
    region: str
    availability_zone: str


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    renew_at: float


class MetadataClient:
    """Asks the metadata service; use it as an asynchronous context.

    Safe for several questions at once: they share one token, and only one of them fetches it.
    """

    def __init__(self, settings: NoticeSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._latest = f"{settings.imds_endpoint.rstrip('/')}/latest"
        self._timeout = aiohttp.ClientTimeout(total=settings.request_timeout_s)
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._token: _Token | None = None
        self._fetching = asyncio.Lock()
        self._instance = ""

    async def __aenter__(self) -> MetadataClient:
        # A proxy of the environment would answer for a machine of its own, and could read the token.
        self._session = aiohttp.ClientSession(
            trust_env=False, timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str) -> str | None:
        """Return what stands at a path below /latest/, or None when there is nothing (404).

        Raises:
            MetadataError: the service cannot be reached, is disabled, or answers something undocumented.
        """
        token = await self._valid_token()
        status, text, _ = await self._ask("GET", path, {TOKEN_HEADER: token.text})
        if status == HTTPStatus.UNAUTHORIZED:
            self._drop(token)
            token = await self._valid_token()
            status, text, _ = await self._ask("GET", path, {TOKEN_HEADER: token.text})
        if status == HTTPStatus.NOT_FOUND:
            return None
        _expect_ok(path, status, text)
        return text

    async def instance_id(self) -> str:
        """Return the EC2 instance id; asked once, since it never changes.

        Raises:
            MetadataError: as for `get`, or the service does not know it.
        """
        if not self._instance:
            text = (await self.get("meta-data/instance-id") or "").strip()
            if not text:
                raise MetadataError("the metadata service names no instance id")
            self._instance = text
        return self._instance

    async def identity(self) -> Identity:
        """Return who this machine is, from its identity document.

        Raises:
            MetadataError: as for `get`, or the document lacks what it must have.
        """
        path = "dynamic/instance-identity/document"
        text = await self.get(path)
        try:
            document = msgspec.json.decode(text or "", type=_Document)
        except (msgspec.MsgspecError, RecursionError) as fault:
            raise MetadataError(f"{path} cannot be read: {fault}", detail=(text or "")[:200]) from fault
        return Identity(
            instance=document.instance_id,
            instance_type=document.instance_type,
            region=document.region,
            zone=document.availability_zone,
        )

    async def _valid_token(self) -> _Token:
        async with self._fetching:
            if self._token is None or self._clock() >= self._token.renew_at:
                self._token = None
                self._token = await self._fetch_token()
            return self._token

    def _drop(self, token: _Token) -> None:
        """Forget a refused token, unless somebody else has renewed it meanwhile."""
        if self._token is token:
            self._token = None

    async def _fetch_token(self) -> _Token:
        asked_at = self._clock()
        try:
            status, text, headers = await self._ask("PUT", "api/token", {TTL_HEADER: str(_LONGEST_TTL_S)})
        except MetadataError as fault:
            if _is_lost_on_the_way(fault.__cause__):
                raise MetadataError(f"no token: {fault.message}", remedy=_HOP_LIMIT) from fault
            raise
        _expect_ok("api/token", status, text)
        if not text or not text.isascii() or not text.isprintable():
            raise MetadataError("api/token gave something that cannot be a token")
        ttl_s = _seconds(headers.get(TTL_HEADER, ""))
        return _Token(text, asked_at + ttl_s - min(_RENEW_BEFORE_S, ttl_s / 2))

    async def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str, dict[str, str]]:
        """Send one request; every failure below HTTP becomes a MetadataError with its cause."""
        if self._session is None:
            raise RuntimeError("a MetadataClient is used as an asynchronous context")
        try:
            async with self._session.request(
                method, f"{self._latest}/{path}", headers=headers, allow_redirects=False
            ) as answer:
                body = b""
                while part := await answer.content.read(_LARGEST_ANSWER):
                    body += part
                    if len(body) > _LARGEST_ANSWER:
                        raise MetadataError(f"{path} gave more than {_LARGEST_ANSWER} bytes")
                return answer.status, body.decode(errors="replace"), dict(answer.headers)
        except TimeoutError as silence:
            raise MetadataError(
                f"the metadata service did not answer within {self._timeout.total:g} s ({path})"
            ) from silence
        except (aiohttp.ClientError, OSError, ValueError) as fault:
            raise MetadataError(f"the metadata service cannot be reached ({path}): {fault}") from fault


def _is_lost_on_the_way(cause: BaseException | None) -> bool:
    """Say whether a hop limit can explain it: silence or a reset can, a refused connection cannot."""
    if isinstance(cause, TimeoutError | aiohttp.ServerDisconnectedError):
        return True
    return isinstance(cause, OSError) and cause.errno == errno.ECONNRESET


def _expect_ok(path: str, status: int, text: str) -> None:
    if status == HTTPStatus.OK:
        return
    if status == HTTPStatus.FORBIDDEN:
        raise MetadataError(f"the metadata service is disabled ({path}: 403)", remedy=_DISABLED)
    raise MetadataError(f"the metadata service answered {path} with status {status}", detail=text[:200])


def _seconds(text: str) -> float:
    """Read the granted TTL; a service that leaves it out has granted what was asked."""
    return float(text) if text.isdecimal() and 0 < int(text) <= _LONGEST_TTL_S else float(_LONGEST_TTL_S)
