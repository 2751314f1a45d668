"""How a job wants to be saved: what it hears before and after, and whether CRIU saves it or it saves itself.

Users say it by annotations of pods (crikpy.kube.annotations) and by options of `crikpy run`; nothing here acts.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from enum import StrEnum

_REAL_TIME = re.compile(r"SIGRTMIN\+([0-9]{1,2})")

_TELLING = frozenset(
    {
        signal.SIGHUP,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGALRM,
        signal.SIGVTALRM,
        signal.SIGPROF,
        signal.SIGWINCH,
        signal.SIGURG,
        signal.SIGIO,
    }
)
"""Signals that mean no end to those who handle them."""

_ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})

TELLING_SIGNALS = f"{', '.join(sorted(number.name for number in _TELLING))}, or SIGRTMIN+N"
"""What a job may be sent before and after, in words."""

APPLICATION_SIGNALS = f"{', '.join(sorted(number.name for number in _ENDING))}, {TELLING_SIGNALS}"
"""What a job may be sent to have it save itself, in words."""


class Mode(StrEnum):
    """Who saves a job: CRIU, the job itself, or CRIU and, where that cannot, the job itself if it says where."""

    AUTO = "auto"
    PROCESS = "process"
    APPLICATION = "application"


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveOptions:
    """How a job wants to be saved; signals by their numbers, 0 for none.

    Attributes:
        mode: who saves it.
        hook_timeout_s: how long its callbacks (crikpy.job) are waited for, seconds.
        signal_before: sent to its root before it is stopped.
        signal_wait_s: how long that is given to work, seconds.
        signal_after: sent to its root when it goes on, moved or not.
        signal_restored: sent to its root when it goes on after a move.
        application_signal: asks it to save itself.
        application_directories: where it does, absolute paths inside the capsule.
    """

    mode: Mode = Mode.AUTO
    hook_timeout_s: float = 10.0
    signal_before: int = 0
    signal_wait_s: float = 5.0
    signal_after: int = 0
    signal_restored: int = 0
    application_signal: int = signal.SIGTERM.value
    application_directories: tuple[str, ...] = ()


def read_signal(text: str, *, may_end: bool = False) -> int:
    """Return the number of a signal that a job may be sent.

    Args:
        text: its name, such as `SIGUSR1` or `USR1`.
        may_end: whether signals that mean the end are allowed too.

    Raises:
        ValueError: there is none of that name, or it is none to be sent.
    """
    name = text.strip().upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    if found := _REAL_TIME.fullmatch(f"{name}+0" if name == "SIGRTMIN" else name):
        number = signal.SIGRTMIN + int(found[1])
        if number > signal.SIGRTMAX:
            raise ValueError(f"there is no signal {text!r}")
        return number
    try:
        known = signal.Signals[name]
    except KeyError as unknown:
        raise ValueError(f"there is no signal {text!r}") from unknown
    if known not in _TELLING and not (may_end and known in _ENDING):
        raise ValueError(f"{known.name} is not to be sent to a job")
    return known.value


def signal_name(number: int) -> str:
    """Return a signal's name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def read_directories(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return application directories, each once.

    Raises:
        ValueError: one is not absolute, is the root, or has `..` in it.
    """
    for text in texts:
        parts = text.split("/")
        if not text.startswith("/") or ".." in parts or not any(parts) or "\0" in text:
            raise ValueError(f"{text!r} is not an absolute path of a directory inside the container")
    return tuple(
        dict.fromkeys("/" + "/".join(part for part in text.split("/") if part not in ("", ".")) for text in texts)
    )
