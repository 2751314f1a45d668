"""What an image runs when a container has no `command`, asked of its registry (OCI distribution specification).

Only manifests and configurations are read, never a layer. The registry decides at each question whether the pod's
credentials may see the image; only what hangs below a digest that it named is remembered.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import ssl
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlencode

from crikpy.aio.clock import Deadline
from crikpy.errors import RegistryError
from crikpy.registry.credentials import Credential, find_credentials
from crikpy.registry.fetching import Answer, Fetcher
from crikpy.registry.references import Reference, parse_reference

_REMEDY = "give the container an explicit command"

_MANIFESTS: Final = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_LARGEST_MANIFEST = 4 * 1024 * 1024
"""What registries must take at least, and so what images may have (OCI distribution specification)."""

_LARGEST_CONFIG = 4 * 1024 * 1024
_LARGEST_TOKEN = 64 * 1024
_REMEMBERED = 512
_ARCHITECTURES: Final = ("amd64", "arm64")
_PARAMETER = re.compile(r'([A-Za-z_]+)="([^"]*)"')
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCommand:
    """What an image says that it runs.

    Attributes:
        entrypoint: `Entrypoint`, which `command` of a container replaces.
        cmd: `Cmd`, which `args` of a container replace.
    """

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()


class Registries:
    """Asks registries; use it as an asynchronous context."""

    def __init__(self, *, plain_hosts: Collection[str] = (), tls: ssl.SSLContext | None = None) -> None:
        """See crikpy.registry.fetching.Fetcher."""
        self._fetcher = Fetcher(plain_hosts=plain_hosts, tls=tls)
        self._known: OrderedDict[str, ImageCommand] = OrderedDict()

    async def __aenter__(self) -> Registries:
        await self._fetcher.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._fetcher.__aexit__(kind, error, trace)

    async def entrypoint_of(
        self, image: str, pull_secrets: Sequence[Mapping[str, Any]], deadline: Deadline
    ) -> ImageCommand:
        """Return what an image runs.

        Args:
            image: its name, as in a container's `image`.
            pull_secrets: raw Secret objects; those that fit are tried, then no credentials at all.
            deadline: when an answer is of no use any more.

        Raises:
            RegistryError: it cannot be found out in time; with what the user can do instead.
        """
        try:
            async with asyncio.timeout(deadline.remaining()):
                return await self._look_up(parse_reference(image), pull_secrets)
        except TimeoutError as late:
            raise RegistryError("the image's registry did not answer in time", remedy=_REMEDY) from late
        except RegistryError as fault:
            raise RegistryError(fault.message, remedy=_REMEDY) from fault

    async def _look_up(self, reference: Reference, pull_secrets: Sequence[Mapping[str, Any]]) -> ImageCommand:
        answer: Answer | None = None
        for credential in (*find_credentials(pull_secrets, reference), None):
            visit = _Visit(self._fetcher, reference, credential)
            answer = await visit.get(f"manifests/{reference.version}", _LARGEST_MANIFEST)
            if answer.status not in (401, 403):
                return await self._read(visit, _expect_json(answer, reference, reference.version))
        raise RegistryError(f"{reference.registry} does not let the pod's pull secrets read the image")

    async def _read(self, visit: _Visit, manifest: dict[str, Any]) -> ImageCommand:
        if isinstance(manifest.get("manifests"), list):
            digest = _pick(manifest["manifests"])
            answer = await visit.get(f"manifests/{digest}", _LARGEST_MANIFEST)
            manifest = _expect_json(answer, visit.reference, digest)
        digest = _digest_in(manifest.get("config"))
        if digest not in self._known:
            answer = await visit.get(f"blobs/{digest}", _LARGEST_CONFIG)
            self._known[digest] = _command_in(_expect_json(answer, visit.reference, digest))
        self._known.move_to_end(digest)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return self._known[digest]


class _Visit:
    """Questions about one image with one credential; what was learnt of the registry's wishes is kept."""

    def __init__(self, fetcher: Fetcher, reference: Reference, credential: Credential | None) -> None:
        self.reference = reference
        self._fetcher = fetcher
        self._credential = credential
        self._authorization = ""

    async def get(self, path: str, largest: int) -> Answer:
        """Ask for a path of the image's repository; a challenge is answered once."""
        url = f"{self._fetcher.base_of(self.reference.server)}/v2/{self.reference.repository}/{path}"
        answer = await self._fetcher.fetch(url, headers=self._headers(), largest=largest)
        if answer.status == 401 and not self._authorization:
            self._authorization = await self._answer_challenge(answer.headers.get("www-authenticate", ""))
            if self._authorization:
                answer = await self._fetcher.fetch(url, headers=self._headers(), largest=largest)
        return answer

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": f"{_MANIFESTS}, */*;q=0.1"}
        return headers | {"Authorization": self._authorization} if self._authorization else headers

    async def _answer_challenge(self, challenge: str) -> str:
        """Return the value for the header Authorization, or "" when none can help (RFC 9110, section 11.6)."""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            return self._basic()
        wishes = {name.lower(): value for name, value in _PARAMETER.findall(rest)}
        if scheme.lower() != "bearer" or not wishes.get("realm"):
            return ""
        scope = wishes.get("scope") or f"repository:{self.reference.repository}:pull"
        token = await self._fetch_token(wishes["realm"], {"service": wishes.get("service", ""), "scope": scope})
        return f"Bearer {token}" if token else ""

    async def _fetch_token(self, realm: str, wishes: dict[str, str]) -> str:
        """Ask the registry's token service ("Token Authentication", "OAuth2 Token Authentication")."""
        if self._credential is not None and self._credential.identity_token:
            form = wishes | {
                "grant_type": "refresh_token",
                "refresh_token": self._credential.identity_token,
                "client_id": "crikpy",
            }
            answer = await self._fetcher.fetch(realm, form=form, largest=_LARGEST_TOKEN)
        else:
            separator = "&" if "?" in realm else "?"
            headers = {"Authorization": basic} if (basic := self._basic()) else {}
            query = urlencode({name: value for name, value in wishes.items() if value})
            answer = await self._fetcher.fetch(
                f"{realm}{separator}{query}", headers=headers, largest=_LARGEST_TOKEN
            )
        if answer.status != 200:
            return ""
        given = _read_json(answer.body)
        token = given.get("token") or given.get("access_token")
        return token if isinstance(token, str) and token.isascii() and token.isprintable() else ""

    def _basic(self) -> str:
        if self._credential is None or not self._credential.password:
            return ""
        pair = f"{self._credential.username}:{self._credential.password}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _expect_json(answer: Answer, reference: Reference, version: str) -> dict[str, Any]:
    """Return the JSON of an answer that succeeded, checked against the digest that it was asked by."""
    match answer.status:
        case 200:
            pass
        case 404:
            raise RegistryError(f"{reference.registry} has no such image")
        case 429:
            raise RegistryError(f"{reference.registry} is asked too often")
        case status:
            raise RegistryError(f"{reference.registry} answers with status {status}")
    if _DIGEST.fullmatch(version) and f"sha256:{hashlib.sha256(answer.body).hexdigest()}" != version:
        raise RegistryError(f"{reference.registry} sends something that does not match its digest")
    return _read_json(answer.body)


def _read_json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as fault:
        raise RegistryError("the image's registry sends something that is not JSON") from fault
    return value if isinstance(value, dict) else {}


def _pick(manifests: Sequence[Any]) -> str:
    """Return the digest of one of an index's images; their entrypoints hardly ever differ by architecture."""
    images = [
        (platform.get("architecture"), entry)
        for entry in manifests
        if isinstance(entry, dict)
        and isinstance(platform := entry.get("platform"), dict)
        and platform.get("os") == "linux"
    ]
    ranked = sorted(
        images, key=lambda one: _ARCHITECTURES.index(one[0]) if one[0] in _ARCHITECTURES else len(_ARCHITECTURES)
    )
    if not ranked:
        raise RegistryError("the image has no variant for Linux")
    return _digest_in(ranked[0][1])


def _digest_in(descriptor: object) -> str:
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise RegistryError("the image's manifest is of a kind that cannot be read")
    return digest


def _command_in(image: Mapping[str, Any]) -> ImageCommand:
    config = image.get("config")
    if not isinstance(config, dict):
        return ImageCommand()
    return ImageCommand(entrypoint=_words(config.get("Entrypoint")), cmd=_words(config.get("Cmd")))


def _words(value: object) -> tuple[str, ...]:
    return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list) else ()
