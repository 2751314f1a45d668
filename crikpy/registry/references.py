"""Names of images, as container runtimes read them (distribution/reference; Docker's defaults)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from crikpy.errors import RegistryError

_HUB: Final = "docker.io"
_HUB_SERVERS: Final = {_HUB: "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}

_LONGEST = 1024
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One image in one registry.

    Attributes:
        registry: host and port as users write them, `docker.io` where they write none; pull secrets go by it.
        repository: path in the registry, such as `library/python`.
        version: the tag, or the digest where the name has one: it is what the runtime takes then.
    """

    registry: str
    repository: str
    version: str

    @property
    def server(self) -> str:
        """Host and port that answer for the registry."""
        return _HUB_SERVERS.get(self.registry, self.registry)

    def __str__(self) -> str:
        separator = "@" if _DIGEST.fullmatch(self.version) else ":"
        return f"{self.registry}/{self.repository}{separator}{self.version}"


def parse_reference(image: str) -> Reference:
    """Return the parts of an image's name.

    Raises:
        RegistryError: it is no such name, or has a digest of an algorithm other than SHA-256.
    """
    rest, has_digest, digest = image.partition("@")
    first, slash, others = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, path = first, others
    else:
        registry, path = _HUB, rest
    repository, has_tag, tag = path.partition(":")
    if registry in _HUB_SERVERS and "/" not in repository:
        repository = f"library/{repository}"
    version = digest if has_digest else tag if has_tag else "latest"
    if (
        len(image) > _LONGEST
        or not _HOST.fullmatch(registry)
        or not _REPOSITORY.fullmatch(repository)
        or (has_tag and not _TAG.fullmatch(tag))
        or (has_digest and not _DIGEST.fullmatch(digest))
    ):
        raise RegistryError(f"{image[:200]!r} is not an image's name that can be looked up")
    return Reference(registry=registry, repository=repository, version=version)
