"""Traces of rescues: what took how long, across controller, agents, launchers and machines, by OpenTelemetry.

Off unless the standard OTEL_… variables name where traces go: then nothing of OpenTelemetry is imported, and every
call here does nothing. On, spans are handed to a queue that never waits (crikpy.tracing.exporting), so that no
rescue is slower for it or fails of it. What a span is about is what records of the log are about (crikpy.log).

All parts of a rescue find its trace without a word between them: the ids follow from the name of its order, which
agent and controller derive alike, and its checkpoint carries them to wherever it is resumed.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Final, Protocol

_log = logging.getLogger(__name__)

LAUNCHER: Final = "launcher"
"""The service of what a launcher does; told by whoever talks with it, since it knows nothing of traces."""

CLOSE_S: Final = 2.0
"""How long the end of a process may wait for its last spans to be taken."""

_HTTP: Final = "http/protobuf"


class Span:
    """A part of a rescue; this one is told to nobody."""

    def note(self, **attributes: object) -> None:
        """Add what has turned out."""

    def fail(self, fault: BaseException | str) -> None:
        """Say that it came to nothing, and why."""

    def end(self) -> None:
        """Say that it is over, if nobody has; a context ends it by itself."""


class Backend(Protocol):
    """Whoever makes real spans: crikpy.tracing.exporting."""

    def rescue(self, identity: str, attributes: Mapping[str, object]) -> AbstractContextManager[Span]:
        """Begin a trace, with the ids of this identity if there is one."""
        ...

    def joined(self, parent: str) -> AbstractContextManager[None]:
        """Have spans be parts of a trace that somebody else has begun."""
        ...

    def act(self, name: str, parent: str, attributes: Mapping[str, object]) -> AbstractContextManager[Span]:
        """Begin a span that others are beside each other in."""
        ...

    def step(self, name: str, service: str, attributes: Mapping[str, object]) -> AbstractContextManager[Span]:
        """Begin a span below the one that is under way."""
        ...

    def start(self, name: str, service: str, attributes: Mapping[str, object]) -> Span:
        """Begin a span of the act that is under way, that whoever has it ends."""
        ...

    def past(
        self, name: str, service: str, began: float, ended: float | None, attributes: Mapping[str, object]
    ) -> None:
        """Tell of what is over already."""
        ...

    def carried(self) -> str:
        """Return the traceparent of the rescue that is under way, or nothing."""
        ...

    def derived(self, identity: str) -> str:
        """Return the traceparent of the rescue of an identity."""
        ...

    def close(self) -> None:
        """Have everything taken that is left, and stop."""
        ...


class _Off:
    """A backend of nothing."""

    def rescue(self, identity: str, attributes: Mapping[str, object]) -> AbstractContextManager[Span]:
        return _NOTHING

    def joined(self, parent: str) -> AbstractContextManager[None]:
        return _NOWHERE

    def act(self, name: str, parent: str, attributes: Mapping[str, object]) -> AbstractContextManager[Span]:
        return _NOTHING

    def step(self, name: str, service: str, attributes: Mapping[str, object]) -> AbstractContextManager[Span]:
        return _NOTHING

    def start(self, name: str, service: str, attributes: Mapping[str, object]) -> Span:
        return _SPAN

    def past(
        self, name: str, service: str, began: float, ended: float | None, attributes: Mapping[str, object]
    ) -> None:
        pass

    def carried(self) -> str:
        return ""

    def derived(self, identity: str) -> str:
        return ""

    def close(self) -> None:
        pass


_SPAN: Final = Span()
_NOTHING: Final = contextlib.nullcontext(_SPAN)
_NOWHERE: Final = contextlib.nullcontext(None)
_OFF: Final = _Off()
_backend: Backend = _OFF


def rescue(identity: str = "", **attributes: object) -> AbstractContextManager[Span]:
    """Begin the trace of a rescue; its parts are the steps within, in whatever task or thread.

    Args:
        identity: what others derive the same trace from, such as an order's namespace and name; none, and only a
            checkpoint carries it on.
        attributes: of its first span.
    """
    return _backend.rescue(identity, attributes)


def joined(parent: str) -> AbstractContextManager[None]:
    """Have the steps within be parts of the rescue of a traceparent; where there is none, of nothing."""
    return _backend.joined(parent)


def act(name: str, parent: str = "", **attributes: object) -> AbstractContextManager[Span]:
    """Tell of a save or a resumption: below the traceparent, else below the rescue under way, else alone."""
    return _backend.act(name, parent, attributes)


def step(name: str, service: str = "", **attributes: object) -> AbstractContextManager[Span]:
    """Tell of a part of the rescue that is under way; where none is, of nothing."""
    return _backend.step(name, service, attributes)


def start(name: str, service: str = "", **attributes: object) -> Span:
    """Begin a part that goes on beside the steps of its act; its `end` must be called."""
    return _backend.start(name, service, attributes)


def past(name: str, service: str = "", *, began: float, ended: float | None = None, **attributes: object) -> None:
    """Tell of a part that is over, or is just now; times are those of `time.time`."""
    _backend.past(name, service, began, ended, attributes)


def carried() -> str:
    """Return the traceparent (W3C) by which others join the rescue under way; nothing when traces are off."""
    return _backend.carried()


def derived(identity: str) -> str:
    """Return the traceparent of the rescue of an identity; nothing when traces are off."""
    return _backend.derived(identity)


def wanted(environ: Mapping[str, str]) -> bool:
    """Say whether the standard variables ask for traces."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environ.get("OTEL_TRACES_EXPORTER", "otlp").strip() not in ("", "otlp"):
        return False
    return bool(environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))


@contextlib.contextmanager
def traced(component: str, environ: Mapping[str, str], *, node: str = "") -> Iterator[None]:
    """Have the rescues within traced, if the environment asks for it; if that cannot be, they go on without."""
    global _backend  # noqa: PLW0603  # one for the process, as the log is
    _backend = _made(component, environ, node) if wanted(environ) else _OFF
    try:
        yield
    finally:
        close()
        _backend = _OFF


def close(within_s: float = CLOSE_S) -> None:
    """Give the last spans so long to be taken; nothing is waited for longer."""
    if _backend is not _OFF:
        closing = threading.Thread(target=_backend.close, name="crikpy-traces", daemon=True)
        closing.start()
        closing.join(within_s)


def _made(component: str, environ: Mapping[str, str], node: str) -> Backend:
    protocol = (
        environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or _HTTP
    )
    if protocol != _HTTP:
        _log.warning("no traces: crikpy speaks %s only, and not %s; the port is 4318 as a rule", _HTTP, protocol)
        return _OFF
    try:
        from crikpy.tracing.exporting import Traces

        return Traces(component, environ, node=node)
    except ImportError as missing:
        _log.info("no traces: %s; install crikpy[telemetry]", missing)
    except Exception as fault:  # noqa: BLE001  # whatever a variable says, nothing of ours fails of it
        _log.warning("no traces: %s: %s", type(fault).__name__, fault)
    return _OFF
