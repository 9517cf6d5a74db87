"""A receiver of traces: one handler that parses what OpenTelemetry's exporter sends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ReceivedSpan

from tests.waiting import until


@dataclass(frozen=True)
class SpanOf:
    """A span with the service that has sent it."""

    service: str
    span: ReceivedSpan

    @property
    def trace_id(self) -> str:
        return self.span.trace_id.hex()

    @property
    def id(self) -> str:
        return self.span.span_id.hex()

    @property
    def parent_id(self) -> str:
        return self.span.parent_span_id.hex()

    @property
    def kind(self) -> str:
        return ReceivedSpan.SpanKind.Name(self.span.kind).removeprefix("SPAN_KIND_").lower()

    @property
    def links(self) -> list[str]:
        return [link.trace_id.hex() for link in self.span.links]

    @property
    def attributes(self) -> dict[str, object]:
        return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in self.span.attributes}


@dataclass
class OtlpReceiver:
    endpoint: str = ""
    spans: list[SpanOf] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def export(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(body)
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(each for each in of_resource.resource.attributes if each.key == "service.name")
            for scope in of_resource.scope_spans:
                self.spans += [SpanOf(service.value.string_value, span) for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")

    def of_trace(self, trace_id: str) -> list[SpanOf]:
        return [each for each in self.spans if each.trace_id == trace_id]

    async def trace(self, trace_id: str, count: int) -> list[SpanOf]:
        """The spans of the trace, once there are so many."""
        await until(lambda: len(self.of_trace(trace_id)) >= count)
        return self.of_trace(trace_id)


def tree(spans: list[SpanOf], parent_id: str, shown: str = "") -> list[tuple]:
    """What is below a parent, sorted: of each span the service, kind, name, the shown attribute, and what is below."""
    return sorted(
        (
            each.service.removeprefix("darkroom-"),
            each.kind,
            " ".join(filter(None, (each.span.name, str(each.attributes.get(shown, ""))))),
            tree(spans, each.id, shown),
        )
        for each in spans
        if each.parent_id == parent_id
    )


@asynccontextmanager
async def receiving_traces() -> AsyncIterator[OtlpReceiver]:
    receiver = OtlpReceiver()
    app = web.Application(client_max_size=50_000_000)
    app.router.add_post("/v1/traces", receiver.export)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    finally:
        await runner.cleanup()
