"""The root of all errors: what every one of them says of itself."""

from __future__ import annotations

from typing import ClassVar


class CrikpyError(Exception):
    """The root of the tree; catch it, never raise it.

    Attributes:
        exit_code: exit status of the command line, unique for each class.
        reason: CamelCase word for Kubernetes Events and conditions.
        retryable: whether the same act may succeed when tried again.
        remedy: what the user can do, in one sentence; may be empty.
        detail: further lines (the end of a log), shown below the message.
    """

    exit_code: ClassVar[int] = 1
    reason: ClassVar[str] = "Failed"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, remedy: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message
