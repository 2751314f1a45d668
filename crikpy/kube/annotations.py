"""What users ask for by annotations of their pods: read strictly, every bad value named with what is allowed.

An annotation that is silently ignored costs its user a job on the day of the interruption. Nothing here knows
the pod's containers and volumes: whether a name exists is said by who knows the pod.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from crikpy import names
from crikpy.errors import AnnotationError
from crikpy.model.groups import MOST_MEMBERS
from crikpy.model.pods import OnMisfit, OnRebalance, OnRestoreFailure, Placement, PodOptions
from crikpy.model.saving import (
    APPLICATION_SIGNALS,
    TELLING_SIGNALS,
    Mode,
    SaveOptions,
    read_directories,
    read_signal,
)

_T = TypeVar("_T")

_LEAST_INTERVAL_S = 60.0
_LONGEST_INTERVAL_S = 365 * 86400.0
_MOST_KEPT = 100
_INT32 = 2**31
_LONGEST_QUOTE = 80
_LONGEST_WAIT_S = 600.0
_MOST_DIRECTORIES = 16
_LONGEST_GROUP = 63

_DURATION = re.compile(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,8})m)?(?:([0-9]{1,10})s)?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,10}")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""A name of a container or volume: a DNS label (Kubernetes API conventions)."""

_GROUP = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")

ALLOWED: Final[Mapping[str, str]] = {
    names.OPT_IN: '"true" or "false"',
    names.CONTAINERS: "names of containers of the pod, separated by commas",
    names.INTERVAL: "a duration from one minute to a year, such as 30m or 1h30m",
    names.ON_REBALANCE: ", ".join(OnRebalance),
    names.PRIORITY: "a whole number of 32 bits; higher is saved first",
    names.EXCLUDE_VOLUMES: "names of emptyDir volumes of the pod, separated by commas",
    names.RESTORE_FAILURE: ", ".join(OnRestoreFailure),
    names.KEEP: f"a whole number from 1 to {_MOST_KEPT}",
    names.RECREATE: '"true" or "false"',
    names.PLACEMENT: ", ".join(Placement),
    names.MISFIT: ", ".join(OnMisfit),
    names.HOOK_TIMEOUT: "a duration from one second to ten minutes, such as 10s",
    names.SIGNAL_BEFORE: TELLING_SIGNALS,
    names.SIGNAL_WAIT: "a duration from one second to ten minutes, such as 5s",
    names.SIGNAL_AFTER: TELLING_SIGNALS,
    names.SIGNAL_RESTORED: TELLING_SIGNALS,
    names.MODE: ", ".join(Mode),
    names.APPLICATION_SIGNAL: APPLICATION_SIGNALS,
    names.APPLICATION_DIRECTORY: "absolute paths of directories inside the container, separated by commas",
    names.GROUP: f"a name of at most {_LONGEST_GROUP} of a-z, 0-9, - and ., or none",
    names.GROUP_SIZE: f"a whole number from 1 to {MOST_MEMBERS}",
}
"""The annotations that users may write, each with the values that it takes, in words."""

_OURS = frozenset({names.INJECTED, names.RECREATE_FROM})


def opted_in(annotations: Mapping[str, str]) -> bool:
    """Say whether a pod with these annotations wants its jobs saved.

    Raises:
        AnnotationError: the value is neither "true" nor "false".
    """
    reader = _Reader(annotations)
    wanted = reader.read(names.OPT_IN, _parse_bool, default=False)
    if fault := reader.faults():
        raise AnnotationError(fault)
    return wanted


def parse_options(annotations: Mapping[str, str]) -> PodOptions:
    """Return what the annotations ask for; those that are not there have their defaults.

    Raises:
        AnnotationError: naming every bad annotation, its value and what is allowed.
    """
    options, fault = read_options(annotations)
    if fault:
        raise AnnotationError(fault)
    return options


def read_options(annotations: Mapping[str, str]) -> tuple[PodOptions, str]:
    """Return what the annotations ask for, and what is wrong with them, or nothing.

    One that is wrong counts as left out: of a pod that was admitted, a later release had understood it.
    """
    reader = _Reader(annotations)
    reader.read(names.OPT_IN, _parse_bool, default=False)
    reader.read(names.GROUP, _parse_group, default="")  # kube/grouping.py has what they mean
    reader.read(names.GROUP_SIZE, _parse_size, default=0)
    default = PodOptions()
    options = PodOptions(
        containers=reader.read(names.CONTAINERS, _parse_names, default=default.containers),
        interval_s=reader.read(names.INTERVAL, _parse_interval, default=default.interval_s),
        on_rebalance=reader.read(names.ON_REBALANCE, OnRebalance, default=default.on_rebalance),
        priority=reader.read(names.PRIORITY, _parse_priority, default=default.priority),
        excluded_volumes=reader.read(names.EXCLUDE_VOLUMES, _parse_names, default=default.excluded_volumes),
        restore_failure=reader.read(names.RESTORE_FAILURE, OnRestoreFailure, default=default.restore_failure),
        keep=reader.read(names.KEEP, _parse_keep, default=default.keep),
        recreate=reader.read(names.RECREATE, _parse_bool, default=default.recreate),
        placement=reader.read(names.PLACEMENT, Placement, default=default.placement),
        on_misfit=reader.read(names.MISFIT, OnMisfit, default=default.on_misfit),
        saving=_read_saving(reader),
    )
    return options, reader.faults()


def _read_saving(reader: _Reader) -> SaveOptions:
    default = SaveOptions()
    found = SaveOptions(
        mode=reader.read(names.MODE, Mode, default=default.mode),
        hook_timeout_s=reader.read(names.HOOK_TIMEOUT, _parse_wait, default=default.hook_timeout_s),
        signal_before=reader.read(names.SIGNAL_BEFORE, read_signal, default=default.signal_before),
        signal_wait_s=reader.read(names.SIGNAL_WAIT, _parse_wait, default=default.signal_wait_s),
        signal_after=reader.read(names.SIGNAL_AFTER, read_signal, default=default.signal_after),
        signal_restored=reader.read(names.SIGNAL_RESTORED, read_signal, default=default.signal_restored),
        application_signal=reader.read(
            names.APPLICATION_SIGNAL, _parse_application_signal, default=default.application_signal
        ),
        application_directories=reader.read(
            names.APPLICATION_DIRECTORY, _parse_directories, default=default.application_directories
        ),
    )
    if found.mode is Mode.APPLICATION and not found.application_directories:
        reader.refuse(names.MODE, found.mode, f"that only together with {names.APPLICATION_DIRECTORY}")
    return found


def describe_fault(annotation: str, value: str, allowed: str) -> str:
    """Return the one sentence in which a bad annotation is refused, wherever that happens."""
    quoted = value if len(value) <= _LONGEST_QUOTE else f"{value[:_LONGEST_QUOTE]}…"
    return f"annotation {annotation}: {quoted!r} is not allowed; it takes {allowed}"


def unknown_annotations(annotations: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the annotations below our prefix that mean nothing, each with the known one that it resembles or "".

    They are no error: a newer release may know them.
    """
    prefix = f"{names.DOMAIN}/"
    known = {name.removeprefix(prefix): name for name in ALLOWED}
    strange = [
        name.removeprefix(prefix)
        for name in sorted(annotations)
        if name.startswith(prefix) and name not in ALLOWED and name not in _OURS
    ]
    closest = {name: difflib.get_close_matches(name, known, n=1, cutoff=0.75) for name in strange}
    return tuple((prefix + name, known[found[0]] if found else "") for name, found in closest.items())


class _Reader:
    """Reads values one by one and keeps what was wrong, so that a user learns of all of it at once."""

    def __init__(self, annotations: Mapping[str, str]) -> None:
        self._annotations = annotations
        self._faults: list[str] = []

    def read(self, name: str, parse: Callable[[str], _T], *, default: _T) -> _T:
        text = self._annotations.get(name)
        if text is None:
            return default
        try:
            return parse(text)
        except ValueError:
            self.refuse(name, text, ALLOWED[name])
            return default

    def refuse(self, name: str, text: str, allowed: str) -> None:
        self._faults.append(describe_fault(name, text, allowed))

    def faults(self) -> str:
        return "; ".join(self._faults)


def _parse_bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


def _parse_names(text: str) -> tuple[str, ...]:
    """Read a comma list; an empty text, as templates leave it behind, names nothing."""
    if not text.strip():
        return ()
    found = [part.strip() for part in text.split(",")]
    if not all(_LABEL.fullmatch(part) for part in found):
        raise ValueError
    return tuple(dict.fromkeys(found))


def _parse_interval(text: str) -> float:
    return _parse_duration(text, _LEAST_INTERVAL_S, _LONGEST_INTERVAL_S)


def _parse_wait(text: str) -> float:
    return _parse_duration(text, 1.0, _LONGEST_WAIT_S)


def _parse_duration(text: str, least_s: float, most_s: float) -> float:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    duration_s = hours * 3600.0 + minutes * 60.0 + seconds
    if not least_s <= duration_s <= most_s:
        raise ValueError
    return duration_s


def _parse_application_signal(text: str) -> int:
    return read_signal(text, may_end=True)


def _parse_directories(text: str) -> tuple[str, ...]:
    found = read_directories(tuple(part.strip() for part in text.split(","))) if text.strip() else ()
    if len(found) > _MOST_DIRECTORIES:
        raise ValueError
    return found


def _parse_priority(text: str) -> int:
    return _parse_integer(text, -_INT32, _INT32 - 1)


def _parse_keep(text: str) -> int:
    return _parse_integer(text, 1, _MOST_KEPT)


def _parse_group(text: str) -> str:
    if len(text) > _LONGEST_GROUP or not _GROUP.fullmatch(text):
        raise ValueError
    return text


def _parse_size(text: str) -> int:
    return _parse_integer(text, 1, MOST_MEMBERS)


def _parse_integer(text: str, least: int, most: int) -> int:
    if not _INTEGER.fullmatch(text) or not least <= int(text) <= most:
        raise ValueError
    return int(text)
