"""Real spans, by OpenTelemetry's own library, and their way out: a bounded queue, one thread, and no patience.

The only importer of OpenTelemetry. Times out of its own accord and drops what the queue does not hold; whether a
collector is there is said once each time that changes, and concerns nobody else.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Final

import opentelemetry.trace as otel
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision

import crikpy
from crikpy import log
from crikpy.errors import CrikpyError
from crikpy.tracing import LAUNCHER, Span

_log = logging.getLogger(__name__)

_PREFIX: Final = "crikpy."
_EXPORT_S: Final = 5.0
"""Longest wait for a collector; OTEL_EXPORTER_OTLP_TIMEOUT counts more."""

_DELAY_MS: Final = 1000.0
"""Longest wait of a span for others to go with: the machine may be gone in a moment. OTEL_BSP_SCHEDULE_DELAY."""

_NAMES: Final = {
    "pod": "k8s.pod.name",
    "namespace": "k8s.namespace.name",
    "pod_uid": "k8s.pod.uid",
    "container": "k8s.container.name",
    "node": "k8s.node.name",
    "error": "error.type",
}
"""Facts that have a name in OpenTelemetry's semantic conventions."""

_forced: ContextVar[tuple[int, int] | None] = ContextVar("crikpy_forced_ids", default=None)
_rescue: ContextVar[str] = ContextVar("crikpy_rescue", default="")
_act: ContextVar[Context | None] = ContextVar("crikpy_act", default=None)


class Traces:
    """Makes spans (crikpy.tracing.Backend)."""

    def __init__(self, component: str, environ: Mapping[str, str], *, node: str) -> None:
        for noisy in ("opentelemetry", "urllib3"):  # a collector that is away is told of once, below
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        timeout = (
            None if _has(environ, "OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT") else _EXPORT_S
        )
        delay = None if _has(environ, "OTEL_BSP_SCHEDULE_DELAY") else _DELAY_MS
        self._exporter = _Patient(OTLPSpanExporter(timeout=timeout))
        self._processor = BatchSpanProcessor(self._exporter, schedule_delay_millis=delay)
        about = {"service.version": crikpy.__version__, **({"k8s.node.name": node} if node else {})}
        chosen = environ.get("OTEL_SERVICE_NAME", "")
        self._providers = {
            "": self._provider(chosen or f"crikpy-{component}", about),
            LAUNCHER: self._provider(f"{chosen or 'crikpy'}-{LAUNCHER}", about),
        }

    def _provider(self, service: str, about: Mapping[str, str]) -> TracerProvider:
        resource = Resource.create({"service.name": service, **about})
        provider = TracerProvider(resource=resource, id_generator=_Ids(), shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        return provider

    @contextlib.contextmanager
    def rescue(self, identity: str, attributes: Mapping[str, object]) -> Iterator[Span]:
        """Begin a trace."""
        with self._root("rescue", identity, attributes) as span:
            yield span

    @contextlib.contextmanager
    def joined(self, parent: str) -> Iterator[None]:
        """Have spans be parts of another's trace; where nobody has said of which, of a new one."""
        context = _context_of(parent)
        if context is None:
            yield
            return
        with self._within(otel.NonRecordingSpan(context), parent):
            yield

    @contextlib.contextmanager
    def act(self, name: str, parent: str, attributes: Mapping[str, object]) -> Iterator[Span]:
        """Begin a span below whatever there is to be below."""
        with self.joined(parent):
            begun = self._step(name, "", attributes) if _rescue.get() else self._root(name, "", attributes)
            with begun as span:
                token = _act.set(get_current())
                try:
                    yield span
                finally:
                    _act.reset(token)

    def _root(self, name: str, identity: str, attributes: Mapping[str, object]) -> AbstractContextManager[Span]:
        token = _forced.set(_ids_of(identity) if identity else None)
        try:
            span = self._tracer("").start_span(name, context=Context())
        finally:
            _forced.reset(token)
        return self._ending(_RealSpan(span, attributes), _traceparent(span.get_span_context()))

    @contextlib.contextmanager
    def step(self, name: str, service: str, attributes: Mapping[str, object]) -> Iterator[Span]:
        """Begin a span below the one that is under way."""
        with self._step(name, service, attributes) if _rescue.get() else contextlib.nullcontext(Span()) as span:
            yield span

    def _step(self, name: str, service: str, attributes: Mapping[str, object]) -> AbstractContextManager[Span]:
        return self._ending(_RealSpan(self._tracer(service).start_span(name), attributes), _rescue.get())

    def start(self, name: str, service: str, attributes: Mapping[str, object]) -> Span:
        """Begin a span that somebody else ends."""
        if not _rescue.get():
            return Span()
        return _RealSpan(self._tracer(service).start_span(name, context=_act.get()), attributes)

    def past(
        self, name: str, service: str, began: float, ended: float | None, attributes: Mapping[str, object]
    ) -> None:
        """Tell of what is over."""
        if _rescue.get():
            span = self._tracer(service).start_span(name, start_time=_nanoseconds(began))
            _RealSpan(span, attributes).end(at=ended)

    def carried(self) -> str:
        """Return the traceparent of the rescue's first span."""
        return _rescue.get()

    def derived(self, identity: str) -> str:
        """Return the traceparent that the rescue of an identity has, wherever it is begun."""
        if not identity:
            return ""
        trace_id, span_id = _ids_of(identity)
        decision = self._providers[""].sampler.should_sample(None, trace_id, "rescue").decision
        sampled = decision is Decision.RECORD_AND_SAMPLE
        flags = otel.TraceFlags(otel.TraceFlags.SAMPLED if sampled else otel.TraceFlags.DEFAULT)
        return _traceparent(otel.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags))

    def close(self) -> None:
        """Send what is left; whoever calls does not wait for ever."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]

    @contextlib.contextmanager
    def _ending(self, span: _RealSpan, rescue: str) -> Iterator[Span]:
        """Have steps be below a span, which ends with the context."""
        with self._within(span.own, rescue):
            try:
                yield span
            except BaseException as fault:
                span.fail(fault)
                raise
            finally:
                span.end()

    @contextlib.contextmanager
    def _within(self, span: otel.Span, rescue: str) -> Iterator[None]:
        """Have steps be below a span, and records say which trace it is of."""
        if rescue != _rescue.get():
            log.learn(trace_id=otel.format_trace_id(span.get_span_context().trace_id))
        token, before = attach(otel.set_span_in_context(span)), _rescue.set(rescue)
        try:
            yield
        finally:
            _rescue.reset(before)
            detach(token)

    def _tracer(self, service: str) -> otel.Tracer:
        return self._providers[service].get_tracer("crikpy", crikpy.__version__)


class _RealSpan(Span):
    """A span with the facts of the log's subject, as they are known at its end."""

    def __init__(self, own: otel.Span, attributes: Mapping[str, object]) -> None:
        self.own = own
        self.note(**attributes)

    def note(self, **attributes: object) -> None:
        """Add what has turned out."""
        for key, value in attributes.items():
            if value not in (None, ""):
                plain = value if isinstance(value, bool | int | float | str) else str(value)
                self.own.set_attribute(_NAMES.get(key, f"{_PREFIX}{key}"), plain)

    def fail(self, fault: BaseException | str) -> None:
        """Say why it came to nothing; no trace of the code, and no secret."""
        text = log.without_secrets(str(fault))
        self.own.set_status(otel.StatusCode.ERROR, text)
        if isinstance(fault, CrikpyError):
            self.note(error=fault.reason, exit_code=fault.exit_code, remedy=fault.remedy)
        elif isinstance(fault, BaseException):
            self.note(error=type(fault).__name__)

    def end(self, at: float | None = None) -> None:
        """End it."""
        if not self.own.is_recording():
            return
        facts = {key: value for key, value in log.subject_facts().items() if key != "trace_id"}
        if "/" in str(pod := facts.get("pod", "")):
            facts["namespace"], _, facts["pod"] = str(pod).partition("/")
        self.note(**facts)
        self.own.end(None if at is None else _nanoseconds(at))


class _Ids(RandomIdGenerator):
    """Ids at random, but where they follow from something."""

    def generate_span_id(self) -> int:
        """Return the id of a span that is begun."""
        forced = _forced.get()
        return forced[1] if forced else RandomIdGenerator.generate_span_id(self)

    def generate_trace_id(self) -> int:
        """Return the id of a trace that is begun."""
        forced = _forced.get()
        return forced[0] if forced else RandomIdGenerator.generate_trace_id(self)


class _Patient(SpanExporter):
    """Says once that nobody takes the spans, and once that somebody does again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._taken = True
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans."""
        try:
            result = self._exporter.export(spans)
        except Exception as fault:  # noqa: BLE001  # a thread of ours must not end for it
            _log.debug("spans were not sent: %s", fault)
            result = SpanExportResult.FAILURE
        taken = result is SpanExportResult.SUCCESS
        self._lost += 0 if taken else len(spans)
        if taken != self._taken:
            if taken:
                _log.info("the collector takes spans again; %d were lost", self._lost)
            else:
                _log.warning("nobody takes our spans; rescues go on without being traced")
            self._taken, self._lost = taken, 0 if taken else self._lost
        return result

    def shutdown(self) -> None:
        """End it."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Send what the exporter keeps."""
        return self._exporter.force_flush(timeout_millis)


def _ids_of(identity: str) -> tuple[int, int]:
    """Return the ids of a trace and of its first span; neither is 0, which means none."""
    digest = hashlib.sha256(f"crikpy rescue\n{identity}".encode()).digest()
    return int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:24]) or 1


def _traceparent(context: otel.SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags.sampled):02x}"


def _context_of(traceparent: str) -> otel.SpanContext | None:
    """Read a traceparent; None where there is none, or nobody could understand it."""
    parts = traceparent.split("-")
    if len(parts) < 4 or [len(part) for part in parts[:4]] != [2, 32, 16, 2]:
        return None
    try:
        trace_id, span_id, flags = (int(part, 16) for part in parts[1:4])
    except ValueError:
        return None
    context = otel.SpanContext(trace_id, span_id, is_remote=True, trace_flags=otel.TraceFlags(flags))
    return context if context.is_valid else None


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)


def _has(environ: Mapping[str, str], *names: str) -> bool:
    return any(environ.get(name) for name in names)
