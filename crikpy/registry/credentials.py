"""Credentials of registries, from the pull secrets of pods (kubernetes.io/dockerconfigjson and /dockercfg).

Which of them fits an image is decided as kubelet does (pkg/credentialprovider/keyring.go): by host, whose parts
may be `*`, port and the beginning of the path; the most specific first. What cannot be read is left out: it must
not keep another secret from being used. Nothing here is ever logged.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from crikpy.registry.references import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What one entry of a secret allows.

    Attributes:
        host: host and perhaps port that it is for; parts of the host may be `*`.
        path: beginning of the repositories that it is for; empty means all.
        username: for basic authentication.
        password: for basic authentication.
        identity_token: a refresh token, in place of a password.
    """

    host: str
    path: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def fits(self, reference: Reference) -> bool:
        """Say whether it is for the image."""
        return _host_fits(self.host, _hub(reference.registry)) and (
            not self.path or f"{reference.repository}/".startswith(f"{self.path.rstrip('/')}/")
        )


def find_credentials(pull_secrets: Iterable[Mapping[str, Any]], reference: Reference) -> tuple[Credential, ...]:
    """Return the credentials for an image among raw Secret objects, the most specific first."""
    fitting = [
        credential for secret in pull_secrets for credential in read_secret(secret) if credential.fits(reference)
    ]
    return tuple(sorted(fitting, key=lambda one: (-len(one.path), "*" in one.host)))


def read_secret(secret: Mapping[str, Any]) -> Iterator[Credential]:
    """Yield what a raw Secret object holds; one that is no pull secret holds nothing."""
    data = secret.get("data")
    if not isinstance(data, dict):
        return
    modern, old = _decode(data.get(".dockerconfigjson")), _decode(data.get(".dockercfg"))
    for entries in (modern.get("auths"), old):
        if isinstance(entries, dict):
            for key, entry in entries.items():
                if isinstance(entry, dict) and (credential := _read_entry(key, entry)) is not None:
                    yield credential


def _decode(value: object) -> dict[str, Any]:
    try:
        decoded = json.loads(base64.b64decode(value if isinstance(value, str) else ""))
    except (ValueError, RecursionError):
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _read_entry(key: str, entry: Mapping[str, Any]) -> Credential | None:
    host, _, path = key.removeprefix("https://").removeprefix("http://").partition("/")
    # Docker's own keys end with the version of an interface that images never had in their names.
    path = path.strip("/")
    path = "" if path in ("v1", "v2") else path.removeprefix("v1/").removeprefix("v2/")
    username, password = _text(entry.get("username")), _text(entry.get("password"))
    if not password:
        username, password = _split_auth(_text(entry.get("auth")))
    token = _text(entry.get("identitytoken"))
    if not host or not (token or password):
        return None
    return Credential(host=_hub(host), path=path, username=username, password=password, identity_token=token)


def _split_auth(text: str) -> tuple[str, str]:
    try:
        username, _, password = base64.b64decode(text).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return username, password.rstrip("\0")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _hub(host: str) -> str:
    """Return one name for all the names of Docker's registry."""
    return "docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host


def _host_fits(pattern: str, host: str) -> bool:
    """Compare part by part, since a `*` must not stand for several of them."""
    wanted, given = _split_port(pattern), _split_port(host)
    parts, others = wanted[0].split("."), given[0].split(".")
    return (
        wanted[1] == given[1]
        and len(parts) == len(others)
        and all(fnmatch.fnmatchcase(other, part) for part, other in zip(parts, others, strict=True))
    )


def _split_port(host: str) -> tuple[str, str]:
    name, _, port = host.rpartition(":")
    return (name, port) if name and port.isdecimal() else (host, "")
