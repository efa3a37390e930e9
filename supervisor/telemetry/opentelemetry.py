"""Traces as OpenTelemetry spans, exported over OTLP/HTTP.

    InferRequest            the request from its first byte to its last, with the frontend's events
      <model>               from its acceptance to its last response
        compute             in the worker
        <model of a step>   of an ensemble, with spans inside like these

The SDK is imported when a server traces this way and not before: it is an extra.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast

from ...ipc.errors import InvalidArgumentError
from .trace import Identity, Stamp, Trace
from .trace_settings import TraceConfig

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.trace import Span, SpanKind

log = logging.getLogger(__name__)

#: How long the last spans may take to leave when the server stops (milliseconds).
_FLUSH_TIMEOUT_MS = 5000

_OF_REQUEST = ("HTTP_", "GRPC_")
_OF_COMPUTE = "COMPUTE_"


class _Ids:
    """Ids at random, but for those that a model was told before there was a span."""

    def __init__(self, others: IdGenerator) -> None:
        self._others = others
        #: Those of the next span; 0 for any.
        self.trace_id = self.span_id = 0

    def generate_span_id(self) -> int:
        """The id of a span that begins."""
        told, self.span_id = self.span_id, 0
        return told or self._others.generate_span_id()

    def generate_trace_id(self) -> int:
        """The id of a trace that begins."""
        told, self.trace_id = self.trace_id, 0
        return told or self._others.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        """Ours are random as well."""
        return True


class OpenTelemetry:
    """Turns traces into spans, on a thread of its own, and exports them in batches."""

    def __init__(self, config: TraceConfig) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
            from opentelemetry.sdk.trace.sampling import ALWAYS_ON
        except ImportError as error:
            raise InvalidArgumentError(
                f"--trace-config=mode=opentelemetry needs the extra 'otel', and '{error.name}' is "
                "missing: pip install 'tritonpy-supervisor[otel]'"
            ) from None
        resource = Resource({"service.name": "triton-inference-server", **dict(config.resource)})
        self._ids = _Ids(RandomIdGenerator())
        # Sampled already: what comes here is exported.
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=resource,
            shutdown_on_exit=False,
            id_generator=cast("IdGenerator", self._ids),
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                OTLPSpanExporter(endpoint=config.url),
                max_queue_size=config.numbers["bsp_max_queue_size"],
                max_export_batch_size=config.numbers["bsp_max_export_batch_size"],
                schedule_delay_millis=config.numbers["bsp_schedule_delay"],
            )
        )
        self._tracer = self._provider.get_tracer("triton-server")
        self._thread = ThreadPoolExecutor(1, "opentelemetry")
        #: From the monotonic clock to that of the spans.
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def __repr__(self) -> str:
        return f"<OpenTelemetry {self._provider.resource.attributes.get('service.name')}>"

    def add(self, trace: Trace) -> None:
        """Take a trace; returns at once."""
        self._thread.submit(self._export, trace)

    def close(self) -> None:
        """Export what is left; blocks until that is done, or has taken too long."""
        self._thread.shutdown()
        self._provider.force_flush(_FLUSH_TIMEOUT_MS)
        self._provider.shutdown()

    def _export(self, trace: Trace) -> None:
        try:
            self._spans(trace)
        except Exception:  # a trace must not take others along
            log.exception("trace %d cannot be exported", trace.id)

    def _spans(self, trace: Trace) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        within = trace.within
        if within is not None and within.context is None:
            within.children.append(trace)  # until the ensemble's own request has ended
            return
        stamps = [entry for entry in trace.entries if isinstance(entry, Stamp)]
        if not stamps:
            return
        identity = next(entry for entry in trace.entries if isinstance(entry, Identity))
        outer = [stamp for stamp in stamps if stamp.name.startswith(_OF_REQUEST)]
        compute = [stamp for stamp in stamps if stamp.name.startswith(_OF_COMPUTE)]
        model = [stamp for stamp in stamps if stamp not in outer and stamp not in compute]
        root: Span | None = None
        parent: Context | None = None
        if within is not None:
            parent = cast("Context", within.context)
        else:
            if trace.parent:
                parent = TraceContextTextMapPropagator().extract({"traceparent": trace.parent})
            if parent is None:
                self._ids.trace_id = int(trace.trace_id, 16)
            root = self._begin("InferRequest", stamps, parent, SpanKind.SERVER)
            parent = set_span_in_context(root)
        self._ids.span_id = int(trace.span_id, 16)
        middle = self._begin(identity.model, model, parent, SpanKind.INTERNAL)
        middle.set_attributes(
            {
                "triton.model_name": identity.model,
                "triton.model_version": identity.version,
                "triton.trace_id": trace.id,
                "triton.trace_parent_id": identity.parent_id,
            }
        )
        if identity.request_id:
            middle.set_attribute("triton.request_id", identity.request_id)
        if compute:
            inner = self._begin("compute", compute, set_span_in_context(middle), SpanKind.INTERNAL)
            self._end(inner, compute, compute)
        self._end(middle, model, model)
        if root is not None:
            self._end(root, outer, stamps)
        trace.context = set_span_in_context(middle)
        children, trace.children = trace.children, []
        for child in children:
            self._export(child)

    def _begin(
        self, name: str, within: list[Stamp], parent: Context | None, kind: SpanKind
    ) -> Span:
        start = min(stamp.ns for stamp in within) + self._offset_ns
        return self._tracer.start_span(name, parent, kind, start_time=start)

    def _end(self, span: Span, events: list[Stamp], within: list[Stamp]) -> None:
        for stamp in sorted(events, key=lambda stamp: stamp.ns):
            span.add_event(stamp.name, timestamp=stamp.ns + self._offset_ns)
        span.end(max(stamp.ns for stamp in within) + self._offset_ns)
