"""Traces of requests by OpenTelemetry, sent to a collector over OTLP/HTTP. The only importer of opentelemetry.

A request that is traced notes times only while it is under way; its spans are made of them when it has ended, and are
sent from a thread of the SDK. What cannot be sent in time is dropped: no request waits for a collector.

Source: OpenTelemetry's semantic conventions for RPC and gRPC (the stable ones, `rpc.system.name` and so on), and the
W3C's Trace Context for `traceparent` and `tracestate`.
"""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from serving import __version__
from serving.clock import Clock
from serving.inbox import EngineCall

FLUSH_SECONDS = 5.0
"""How long the end of the server waits for spans to be sent."""
SERVER_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""The gRPC statuses that make a server's span one of an error; the others are the client's doing."""
_PARENT_KEYS = ("traceparent", "tracestate")


class OpenTelemetry:
    """Begins the traces of a server (`serving.wire.traces.Tracer`), and sends them."""

    def __init__(self, endpoint: str, *, sample_ratio: float, clock: Clock) -> None:
        """Start the thread that sends.

        The SDK reads its own environment variables for the rest: `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`,
        `OTEL_BSP_...` for the batches, `OTEL_EXPORTER_OTLP_...` for headers, certificates and the timeout.

        Args:
            endpoint: URL that takes OTLP over HTTP, with its path.
            sample_ratio: of the traces that begin here, 0 to 1; for others their parent decides.
            clock: of the server, which times are told on.
        """
        service = Resource.create({"service.name": "lstm-serve", "service.version": __version__})
        resource = service.merge(OTELResourceDetector().detect())
        self._sending = BatchSpanProcessor(OTLPSpanExporter(endpoint))
        self._tracer = self._tracer_of(TraceIdRatioBased(sample_ratio), resource)
        self._of_chosen = self._tracer_of(ALWAYS_ON, resource)
        self._propagator = TraceContextTextMapPropagator()
        self._clock = clock

    def _tracer_of(self, sampler: Sampler, resource: Resource) -> Tracer:
        """Return what draws traces that begin here by a sampler of their own, and sends them with all others."""
        provider = TracerProvider(sampler=ParentBased(sampler), resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self._sending)
        return provider.get_tracer("serving", __version__)

    def begin(
        self, method: str, metadata: Iterable[tuple[str, str | bytes]], *, began_ns: int, chosen: bool = False
    ) -> "RequestSpans | None":
        """Begin the trace of a request, or return None if it is not sampled.

        Args:
            method: full name of the gRPC method, without the leading slash.
            metadata: of the call, which may name a trace to go on with.
            began_ns: when the request came, on the server's clock.
            chosen: whether it has been drawn already, so that it is traced if no trace that it goes on with forbids it.
        """
        parent: dict[str, list[str]] = {}
        for key, value in metadata:
            if key in _PARENT_KEYS and isinstance(value, str):
                parent.setdefault(key, []).append(value)
        context = self._propagator.extract(parent, Context()) if parent else Context()
        offset_ns = time.time_ns() - self._clock.now_ns()
        tracer = self._of_chosen if chosen else self._tracer
        span = tracer.start_span(method, context, SpanKind.SERVER, start_time=began_ns + offset_ns)
        if not span.is_recording():
            return None
        span.set_attributes({"rpc.system.name": "grpc", "rpc.method": method})
        return RequestSpans(self._tracer, span, self._clock, began_ns=began_ns, offset_ns=offset_ns)

    def close(self) -> None:
        """Send what is left, for a few seconds at most; the exporter by itself would try for longer."""
        closing = threading.Thread(target=self._sending.shutdown, name="traces-close", daemon=True)
        closing.start()
        closing.join(FLUSH_SECONDS)


@dataclass(frozen=True, slots=True)
class _EngineSpan:
    """An engine call, and how many of its rows are the request's."""

    call: EngineCall
    rows: int


class RequestSpans:
    """What one request's spans will be made of (`serving.wire.traces.RequestTrace`)."""

    def __init__(self, tracer: Tracer, span: Span, clock: Clock, *, began_ns: int, offset_ns: int) -> None:
        """Take the request's own span.

        Args:
            tracer: makes the others.
            span: of the request.
            clock: of the server.
            began_ns: when the request came.
            offset_ns: from the server's clock to the time of day, which spans are told in. It is looked at once per
                request, so that a clock that is set meanwhile cannot mix up the order of its spans.
        """
        self.trace_id = format_trace_id(span.get_span_context().trace_id)
        self._tracer = tracer
        self._span = span
        self._clock = clock
        self._offset_ns = offset_ns
        self._began_ns = began_ns
        self._queued_ns: int | None = None
        self._started_ns: int | None = None
        self._engine: list[_EngineSpan] = []

    def queued(self, now_ns: int) -> None:
        """Take when the request had been read, checked and accepted."""
        self._queued_ns = now_ns

    def started(self, now_ns: int) -> None:
        """Take when its first rows went to the engine."""
        self._started_ns = now_ns

    def engine_ran(self, call: EngineCall, *, rows: int) -> None:
        """Take an engine call that computed so many of its rows."""
        self._engine.append(_EngineSpan(call, rows))

    def describe(self, *, model: str, version: str, rows: int, steps: int, request_id: str) -> None:
        """Take what the request was."""
        self._span.set_attributes(
            {
                "lstm.model": model,
                "lstm.version": version,
                "lstm.rows": rows,
                "lstm.steps": steps,
                "lstm.request_id": request_id,
            }
        )

    def end(self, status: str, outcome: str) -> None:
        """Make the spans, now that the answer is written.

        Args:
            status: name of the gRPC status.
            outcome: ok, or the reason of the error.
        """
        ended_ns = self._clock.now_ns()
        self._children(ended_ns)
        self._span.set_attributes({"rpc.response.status_code": status, "lstm.outcome": outcome})
        if status in SERVER_FAULTS:
            self._span.set_attribute("error.type", status)
            self._span.set_status(StatusCode.ERROR)
        self._span.end(ended_ns + self._offset_ns)

    def _children(self, ended_ns: int) -> None:
        """Make the spans of what the request got to: how far that is tells where it ended."""
        self._child("receive", self._began_ns, self._queued_ns or ended_ns)
        if self._queued_ns is None:
            return
        self._child("queue", self._queued_ns, self._started_ns or ended_ns)
        engine = list(self._engine)  # a call that outlasted the request's deadline may still be told
        for ran in engine:
            attributes: dict[str, AttributeValue] = {
                "lstm.rows": ran.rows,
                "lstm.batch.rows": ran.call.rows,
                "lstm.batch.steps": ran.call.steps,
                "lstm.batch.padding_efficiency": ran.call.padding_efficiency,
            }
            self._child("engine", ran.call.started_ns, ran.call.ended_ns, attributes, failed=ran.call.failed)
        if engine:
            self._child("respond", max(ran.call.ended_ns for ran in engine), ended_ns)

    def _child(
        self,
        name: str,
        began_ns: int,
        ended_ns: int,
        attributes: dict[str, AttributeValue] | None = None,
        *,
        failed: bool = False,
    ) -> None:
        offset_ns = self._offset_ns
        span = self._tracer.start_span(
            name, set_span_in_context(self._span), attributes=attributes, start_time=began_ns + offset_ns
        )
        if failed:
            span.set_status(StatusCode.ERROR)
        span.end(ended_ns + offset_ns)
