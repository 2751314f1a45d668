"""The identity under which checkpoints are kept: which new process may resume which checkpoint."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,252}")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Workload:
    """A job by name; its parts become parts of keys in the store, so that none can lead out of its folder.

    Attributes:
        cluster: the cluster, or a word for a group of plain machines.
        namespace: the namespace in the cluster.
        name: the job's name.

    Raises:
        ValueError: saying which part is wrong and what is allowed.
    """

    cluster: str
    namespace: str
    name: str

    def __post_init__(self) -> None:
        for item in fields(self):
            text = getattr(self, item.name)
            if not _PART.fullmatch(text):
                raise ValueError(
                    f"{item.name} {text!r}: 1 to 253 letters, digits, '.', '_' and '-', not starting with '.'"
                )

    def __str__(self) -> str:
        return f"{self.cluster}/{self.namespace}/{self.name}"
