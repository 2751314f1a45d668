"""Sealed sessions: a bearer token that a browser keeps for a while, in a form that is of use to nobody but us.

Cookies are sent to every port of a host, so that what else runs behind `localhost` may get to see them. The key is
made of the serving certificate's own, which all replicas share: any of them opens what another has sealed, nothing
is kept, and a new certificate ends the sessions before the last.
"""

from __future__ import annotations

import base64
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_PURPOSE: Final = b"crikpy sessions 1"
_KEPT: Final = 2
"""Keys that open: the one in use, and that of the certificate before it."""


class Sessions:
    """Seals tokens and opens them again."""

    def __init__(self, life_s: float) -> None:
        """Take how long a session lasts at most, seconds."""
        self._life_s = int(life_s)
        self._seals: tuple[Fernet, ...] = ()

    def use(self, key: bytes) -> None:
        """Seal from now on with what is made of a certificate's key, PEM."""
        derived = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=_PURPOSE).derive(key)
        self._seals = (Fernet(base64.urlsafe_b64encode(derived)), *self._seals)[:_KEPT]

    def seal(self, token: str) -> str:
        """Return a token's sealed form, letters that a cookie can hold; empty as long as there is no key."""
        return self._seals[0].encrypt(token.encode()).decode() if self._seals else ""

    def open(self, sealed: str) -> str | None:
        """Return the token; None for what is too old, or was never sealed by us."""
        for seal in self._seals:
            try:
                return seal.decrypt(sealed.encode(), ttl=self._life_s).decode()
            except (InvalidToken, UnicodeError):
                continue
        return None
