"""What every command's help ends with: examples, environment and exit status; it must do where there is no net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

STORE_ENVIRONMENT: Final = (
    "CRIKPY_STORE         the store, where --store is not given",
    "CRIKPY_STORE_…       endpoint, region, keys: crikpy help settings",
    "AWS_…                credentials for S3, as for the aws command",
)
CLUSTER_ENVIRONMENT: Final = ("KUBECONFIG           the cluster, as for kubectl; in a pod the pod's own",)
RUN_ENVIRONMENT: Final = (
    "CRIKPY_RUN_…         leases, deadlines, folders: crikpy help settings",
    "CRIKPY_NOTICES_…     where interruption notices come from",
    "CRIKPY_CRIU_…        where CRIU and the launcher are",
)
_NONE = ("CRIKPY_…             settings: crikpy help settings",)
_USUAL = "0 when it was done; any other says why not: crikpy help exit-statuses"


def epilog(*examples: str, environment: Sequence[str] = (), statuses: Sequence[str] = (_USUAL,)) -> str:
    """Return the end of a command's help; click keeps its lines as they are.

    Args:
        examples: command lines, each with what it is for below a `#`, if that needs saying.
        environment: lines of `VARIABLE  meaning`.
        statuses: what the exit status means, a line each.
    """
    return "\n\n".join(
        (
            _section("Examples", examples),
            _section("Environment", environment or _NONE),
            _section("Exit status", statuses),
        )
    )


def _section(title: str, lines: Sequence[str]) -> str:
    indented = [f"  {line}" for text in lines for line in text.splitlines()]
    return "\n".join(["\b", f"{title}:", *indented])
