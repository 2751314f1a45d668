"""Wrong uses of every command, as a table: what is typed, and what must be said. Usable without pytest.

`STORE` stands for a store that has one checkpoint of the job `train`.
"""

from __future__ import annotations

from dataclasses import dataclass

from crikpy.errors import (
    CheckpointNotFoundError,
    CrikpyError,
    NoSuchJobError,
    SettingsError,
    UsageError,
)
from tests.cli.shelf import OLDER

ABSENT = "20250131T120000Z-0123abcd"
AT = ("--store", "STORE")


@dataclass(frozen=True, slots=True)
class Misuse:
    """One wrong command line: the words behind the command, the error's class, and a word of its message."""

    words: tuple[str, ...]
    says: str
    kind: type[CrikpyError] = UsageError


MISUSES: dict[str, tuple[Misuse, ...]] = {
    "check": (
        Misuse(("--nope",), "no such option"),
        Misuse(("machine",), "unexpected extra argument"),
        Misuse(("--output", "xml"), "'xml' is not one of"),
    ),
    "run": (
        Misuse((*AT, "--", "true"), "--name"),
        Misuse((*AT, "--name", "train"), "no command"),
        Misuse((*AT, "--name", "../up", "--", "true"), "'../up'"),
        Misuse((*AT, "--name", "train", "--mode", "both", "--", "true"), "'both' is not one of"),
        Misuse((*AT, "--name", "train", "--mode", "application", "--", "true"), "needs a directory"),
        Misuse((*AT, "--name", "train", "--signal-before", "SIGKILL", "--", "true"), "--signal-before"),
        Misuse(("--name", "train", "--store", "ftp://x/y", "--", "true"), "ftp://x/y"),
    ),
    "restore": (
        Misuse(AT, "missing argument 'NAME'"),
        Misuse(("../up", *AT), "'../up'"),
        Misuse(("train", "--store", "relative/path"), "relative/path"),
    ),
    "checkpoint": (
        Misuse((), "missing argument"),
        Misuse(("nobody",), "nobody", NoSuchJobError),
        Misuse(("train", "--move"), "--move is for pods"),
        Misuse(("pod/train-0", "--leave-running", "--move"), "exclude each other"),
        Misuse(("pod/train-0",), "", SettingsError),
    ),
    "list": (
        Misuse((), "", SettingsError),
        Misuse(("--store", "relative/path"), "relative/path"),
        Misuse((*AT, "--watch", "--interval", "0"), "0"),
        Misuse(("a", "b"), "unexpected extra argument"),
    ),
    "show": (
        Misuse(("train",), "--store"),
        Misuse(("nobody", *AT), "nobody", CheckpointNotFoundError),
        Misuse(("train", ABSENT, *AT), ABSENT, CheckpointNotFoundError),
        Misuse(("train", "../../up", *AT), "'../../up'"),
    ),
    "diff": (
        Misuse(AT, "missing argument 'NAME'"),
        Misuse(("train", *AT), "two complete checkpoints", CheckpointNotFoundError),
        Misuse(("train", OLDER, *AT), "itself the newest"),
        Misuse(("train", OLDER, ABSENT, *AT), ABSENT, CheckpointNotFoundError),
    ),
    "verify": (
        Misuse(("train",), "--store"),
        Misuse(("nobody", *AT), "nobody", CheckpointNotFoundError),
        Misuse(("train", "newest", *AT), "'newest'"),
    ),
    "rm": (
        Misuse(("train", *AT), "missing argument 'CHECKPOINT'"),
        Misuse(("train", ABSENT, *AT), ABSENT, CheckpointNotFoundError),
        Misuse(("train", OLDER, *AT, "--force"), "no such option '--force'"),
    ),
    "gc": (
        Misuse((), "--store"),
        Misuse((*AT, "--min-age", "24"), "24h"),
        Misuse((*AT, "--expired", "--ttl", "99999999d"), "to 3650d"),
        Misuse((*AT, "--ttl", "1d"), "--ttl needs --expired"),
    ),
    "why": (
        Misuse((), "missing argument"),
        Misuse(("train-0",), "'train-0' is not the name of a pod"),
        Misuse(("pod/train-0",), "", SettingsError),
    ),
    "uninstall": (
        Misuse(("now",), "unexpected extra argument"),
        Misuse(("--yes", "--timeout", "soon"), "such as 24h"),
        Misuse(("--yes", "--timeout", "0s"), "0s is not from 1s"),
        Misuse(("--yes", "--checkpoints", "burn"), "'burn' is not one of"),
    ),
    "top": (
        Misuse(("--interval", "0"), "0"),
        Misuse(("-n", "team"), "namespaces are for pods"),
        Misuse(("pods",), "", SettingsError),
    ),
    "agent": (
        Misuse((), "--store"),
        Misuse(AT, "--node"),
        Misuse((*AT, "--node", "a", "b"), "unexpected extra argument"),
    ),
    "controller": (
        Misuse(("now",), "unexpected extra argument"),
        Misuse(("--store", "/x"), "no such option '--store'"),
        Misuse(("--replicas", "2"), "no such option '--replicas'"),
    ),
    "completion": (
        Misuse((), "missing argument 'SHELL'"),
        Misuse(("tcsh",), "'tcsh' is not one of"),
        Misuse(("bash", "zsh"), "unexpected extra argument"),
    ),
    "help": (
        Misuse(("nothing",), "'nothing'"),
        Misuse(("run", "restore"), "unexpected extra argument"),
        Misuse(("--all",), "no such option '--all'"),
    ),
}
