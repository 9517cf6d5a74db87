"""The adapter of traces to OpenTelemetry, from the extra `otel`.

Spans are sent in batches, by a thread of the library. If the collector does not answer, spans are dropped and nothing
waits for it, apart from `CLOSE_S` at the end of the process.
"""

from __future__ import annotations

import threading
from importlib.metadata import version
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from common.runtime.tracing.spans import Attribute, Attributes, Span, SpanKind

CLOSE_S: Final = 5.0
_KINDS: Final = {kind: trace.SpanKind[kind.name] for kind in SpanKind}


class OtelSpan:
    def __init__(self, span: trace.Span) -> None:
        self.span = span
        context = span.get_span_context()
        self.traceparent = (
            f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}" if context.is_valid else None
        )

    def set(self, name: str, value: Attribute) -> None:
        self.span.set_attribute(name, value)

    def fail(self, error_type: str) -> None:
        self.span.set_attribute("error.type", error_type)
        self.span.set_status(trace.StatusCode.ERROR)

    def end(self) -> None:
        self.span.end()


class OtelTracer:
    """Use `open_tracer` to make one."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("darkroom")

    def start(
        self,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        *,
        parent: Span | str | None,
        link: Span | None = None,
    ) -> OtelSpan:
        # a context of its own: without a parent, another library's current span is none either
        context = trace.set_span_in_context(_otel_span(parent), Context())
        span = self._tracer.start_span(name, context=context, kind=_KINDS[kind], attributes=dict(attributes))
        if isinstance(link, OtelSpan):
            span.add_link(link.span.get_span_context())
        return OtelSpan(span)

    def close(self) -> None:
        """Send what is left, for at most `CLOSE_S`: the collector may hang."""
        closing = threading.Thread(target=self._provider.shutdown, name="close-traces", daemon=True)
        closing.start()
        closing.join(CLOSE_S)


def open_tracer(endpoint: str, *, service: str) -> OtelTracer:
    """A tracer that sends to the collector at this base URL; the variables `OTEL_…` say the rest.

    Those are of this process and not in `.env`: `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`,
    `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_…`.
    """
    own = {"service.name": service, "service.version": version("darkroom")}
    resource = Resource.create({**own, **OTELResourceDetector().detect().attributes})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
    return OtelTracer(provider)


def _otel_span(parent: Span | str | None) -> trace.Span:
    if isinstance(parent, OtelSpan):
        return parent.span
    if not isinstance(parent, str):
        return trace.INVALID_SPAN
    _, trace_id, span_id, flags = parent.split("-")
    context = trace.SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=trace.TraceFlags(int(flags, 16) & 1)
    )
    return trace.NonRecordingSpan(context)
