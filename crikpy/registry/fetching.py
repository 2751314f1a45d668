"""HTTP to hosts that are named by users' pods, without lending them this process's place in the network.

Whoever may make a pod chooses where these requests go. So they go over TLS only, never to loopback, link-local or
metadata addresses (checked at the connection itself, whatever a name resolves to at that moment), never by way of
a proxy of the environment, with no credentials but the pod's own, and nothing of an answer is shown to the user.
Private addresses are allowed: registries within a network are common. Sizes are bounded here, time by the caller.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import aiohttp
from yarl import URL

from crikpy.errors import RegistryError

_MOST_REDIRECTS = 4
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_AUTHORIZATION: Final = "Authorization"

_AWS_LOCAL = ipaddress.ip_network("fd00:ec2::/32")
"""Metadata, time and credentials of EC2 by IPv6, which is no link-local network."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back after all redirects.

    Attributes:
        status: HTTP status.
        headers: by lower-case name.
        body: all of it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Fetcher:
    """Sends requests; use it as an asynchronous context."""

    def __init__(self, *, plain_hosts: Collection[str] = (), tls: ssl.SSLContext | None = None) -> None:
        """Take how it is limited.

        Args:
            plain_hosts: those that an administrator trusts without TLS and wherever they are, as images name them.
            tls: whom to trust; None means the certificate authorities of the system.
        """
        self._plain_hosts = frozenset(plain_hosts)
        self._tls = tls
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Fetcher:
        tls: ssl.SSLContext | bool = self._tls if self._tls is not None else True
        for trusted in (False, True):
            connector = aiohttp.TCPConnector(
                ssl=tls, limit=16, use_dns_cache=False, socket_factory=None if trusted else _open_allowed
            )
            self._sessions[trusted] = aiohttp.ClientSession(
                connector=connector,
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "crikpy", "Accept-Encoding": "identity"},
                auto_decompress=False,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    def base_of(self, server: str) -> str:
        """Return the beginning of the URLs of a server, given as host and port."""
        return f"{'http' if server in self._plain_hosts else 'https'}://{server}"

    async def fetch(
        self,
        url: str,
        *,
        largest: int,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        """Get a page, or post a form to it, and follow where it leads; credentials go to the first host only.

        Raises:
            RegistryError: the host may not be asked, cannot be reached, or sends more than `largest` bytes.
        """
        sent = dict(headers or {})
        place = _parse(url)
        for _ in range(_MOST_REDIRECTS):
            answer = await self._ask(place, sent, form, largest)
            target = answer.headers.get("location", "")
            if answer.status not in _REDIRECTS or not target or form is not None:
                return answer
            following = place.join(_parse(target))
            if following.origin() != place.origin():
                sent.pop(_AUTHORIZATION, None)
            place = following
        raise RegistryError(f"{place.host} redirects without end")

    async def _ask(
        self, place: URL, headers: Mapping[str, str], form: Mapping[str, str] | None, largest: int
    ) -> Answer:
        trusted = self._is_plain(place)
        if place.scheme != "https" and not (place.scheme == "http" and trusted):
            raise RegistryError(f"{place.host} is not asked without TLS")
        try:
            async with self._sessions[trusted].request(
                "GET" if form is None else "POST", place, headers=headers, data=form, allow_redirects=False
            ) as answer:
                body = bytearray()
                while part := await answer.content.readany():
                    body += part
                    if len(body) > largest:
                        raise RegistryError(f"{place.host} sends more than {largest} bytes")
                lowered = {name.lower(): value for name, value in answer.headers.items()}
                return Answer(status=answer.status, headers=lowered, body=bytes(body))
        except (aiohttp.ClientError, OSError, ValueError) as fault:
            if isinstance(fault, TimeoutError):
                raise  # the caller's deadline
            raise RegistryError(f"{place.host} cannot be asked: {_in_short(fault)}") from fault

    def _is_plain(self, place: URL) -> bool:
        names = {f"{place.host}:{place.port}"} | ({place.host} if place.is_default_port() else set())
        return not names.isdisjoint(self._plain_hosts)


def _parse(url: str) -> URL:
    try:
        place = URL(url)
    except ValueError as fault:
        raise RegistryError("the registry names something that is no address") from fault
    if place.user is not None or place.password is not None:
        raise RegistryError("the registry names an address with credentials in it")
    return place


def _in_short(fault: BaseException) -> str:
    """Return what went wrong without the library's own words around it."""
    if isinstance(fault, aiohttp.ClientConnectorError):
        return fault.os_error.strerror or "no connection"
    return type(fault).__name__


def _open_allowed(target: aiohttp.AddrInfoType) -> socket.socket:
    """Open a socket for an address, unless nobody outside of this machine or its cloud may be asked there."""
    family, kind, protocol, _, (host, *_) = target
    if not is_allowed(ipaddress.ip_address(str(host).partition("%")[0])):
        raise OSError(errno.EACCES, "its address is not one that registries have")
    return socket.socket(family, kind, protocol)


def is_allowed(address: _Address) -> bool:
    """Say whether a registry may have an address; addresses within addresses count as the inner one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_allowed(inner)
        if address in _AWS_LOCAL:
            return False
    return not (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
    )
