"""Words that stand in objects which releases share, one of which may know more of them than another.

A word that this release does not know is kept as it is, so that it can be shown and written back; it is equal to
none of ours, so whoever asks for one of ours does not find it. Where it must not be guessed, nothing is done.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Word(StrEnum):
    """A word of ours, or by `read` one of a later release."""

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the word; a text that is none of ours becomes one that is no member."""
        try:
            return cls(text)
        except ValueError:
            strange = str.__new__(cls, text)
            strange._name_, strange._value_ = "", text
            return strange

    @property
    def known(self) -> bool:
        """Whether it is one of ours."""
        return bool(self._name_)
