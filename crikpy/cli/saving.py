"""The options by which a job says how it wants to be saved."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, TypeVar

import click

from crikpy.errors import UsageError
from crikpy.model.saving import (
    APPLICATION_SIGNALS,
    TELLING_SIGNALS,
    Mode,
    SaveOptions,
    read_directories,
    read_signal,
)

_F = TypeVar("_F", bound=Callable[..., Any])

_SECONDS = click.FloatRange(min=0.1, max=600.0)


def saving_options(command: _F) -> _F:
    """Add the options to a command, which hands what they say to save_options."""
    for option in reversed(
        (
            click.option(
                "--mode",
                type=click.Choice([mode.value for mode in Mode]),
                default=Mode.AUTO.value,
                show_default=True,
                help="Who saves the job: CRIU, the job itself into its --carry directories, or CRIU if it can.",
            ),
            click.option(
                "--hook-timeout",
                type=_SECONDS,
                default=10.0,
                show_default=True,
                metavar="SECONDS",
                help="How long the job may take to get ready, before it is stopped as it is.",
            ),
            click.option("--signal-before", metavar="SIGNAL", help="Sent to the job before it is stopped."),
            click.option(
                "--signal-wait",
                type=_SECONDS,
                default=5.0,
                show_default=True,
                metavar="SECONDS",
                help="How long to wait between --signal-before and the stop.",
            ),
            click.option("--signal-after", metavar="SIGNAL", help="Sent to the job when it goes on."),
            click.option("--signal-restored", metavar="SIGNAL", help="Sent to the job when it was moved."),
            click.option("--application-signal", metavar="SIGNAL", help="Asks the job to save itself.  [SIGTERM]"),
        )
    ):
        command = option(command)
    return command


def save_options(
    carried: tuple[str, ...],
    *,
    mode: str,
    hook_timeout: float,
    signal_before: str | None,
    signal_wait: float,
    signal_after: str | None,
    signal_restored: str | None,
    application_signal: str | None,
) -> SaveOptions:
    """Return what was asked for.

    Raises:
        UsageError: a signal that is not to be sent, or application mode without a directory.
    """
    if mode == Mode.APPLICATION and not carried:
        raise UsageError(
            "a job that saves itself needs a directory for that", remedy="name it: --mode application --carry DIR"
        )
    try:
        directories = read_directories(carried)
    except ValueError as fault:
        raise UsageError(str(fault)) from fault
    return SaveOptions(
        mode=Mode(mode),
        hook_timeout_s=hook_timeout,
        signal_before=_signal("--signal-before", signal_before),
        signal_wait_s=signal_wait,
        signal_after=_signal("--signal-after", signal_after),
        signal_restored=_signal("--signal-restored", signal_restored),
        application_signal=_signal("--application-signal", application_signal, may_end=True)
        or signal.SIGTERM.value,
        application_directories=directories,
    )


def _signal(option: str, text: str | None, *, may_end: bool = False) -> int:
    if text is None:
        return 0
    try:
        return read_signal(text, may_end=may_end)
    except ValueError as fault:
        allowed = APPLICATION_SIGNALS if may_end else TELLING_SIGNALS
        raise UsageError(f"{option}: {fault}", remedy=f"it takes {allowed}") from fault
