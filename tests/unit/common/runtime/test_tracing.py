"""Traces: which span is the parent of which."""

import asyncio
import sys
from functools import partial
from unittest.mock import Mock

import pytest
from aiohttp import ClientSession, web
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from common.application.webhooks.deliveries import WebhookDelivery
from common.bus.memory import MemoryBus
from common.bus.port import Done, Reject, Retry, WorkQueue
from common.bus.rabbitmq.codec import Delivery, with_traceparent
from common.bus.traced import MemoryNames, TracedBus
from common.domain import transitions
from common.domain.batches import missing_members
from common.domain.errors import Misconfigured, Rejected
from common.domain.requests import GenerationRequest
from common.messages import CancelImage, GenerateImage
from common.runtime.clock import ManualClock
from common.runtime.reading_settings import read_settings
from common.runtime.serving import serving
from common.runtime.tracing.connect import tracing
from common.runtime.tracing.http import client_tracing, traced_requests
from common.runtime.tracing.otel import OtelTracer
from common.runtime.tracing.spans import (
    SpanKind,
    current_traceparent,
    recording,
    span,
    span_about,
    span_of_message,
    trace_id_of,
    traceparent_about,
)
from common.store.port import change
from common.store.sqlite import SqliteStore
from tests.making import NOON, a_batch, an_image, an_outbox
from tests.waiting import until

ONE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-11111111111111111111111111111111-2222222222222222-01"
ODD = [
    None,
    "",
    "00-0-0-01",
    ONE.upper(),
    f"{ONE} ",
    ONE.replace("00-", "ff-", 1),
    ONE.replace("b7ad6b7169203331", "0" * 16),
]


class Spans:
    """The spans of this process that have ended."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def named(self, name):
        return [each for each in self._exporter.get_finished_spans() if each.name == name]

    def one(self, name):
        (found,) = self.named(name)
        return found


def parent_id(span) -> str:
    return f"{span.parent.span_id:016x}" if span.parent else ""


def trace_id(span) -> str:
    return f"{span.context.trace_id:032x}"


def is_child(span, of) -> bool:
    return span.parent is not None and span.parent.span_id == of.context.span_id


@pytest.fixture
def spans():
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with recording(OtelTracer(provider)):
        yield Spans(exporter)
    provider.shutdown()


@pytest.fixture
async def bus(spans):
    async with MemoryBus(retry_delays=(0.01,)) as bus:
        yield TracedBus(bus, MemoryNames())


def test_without_a_tracer_nothing_is_recorded():
    with span("x") as unrecorded:
        unrecorded.set("a", 1)
        unrecorded.fail("b")
        assert current_traceparent() is None
    assert traceparent_about("i", ONE) == ONE
    assert client_tracing() == []


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_an_odd_traceparent_begins_a_trace(spans, odd):
    with span_of_message("process q", SpanKind.CONSUMER, {}, traceparent=odd):
        pass

    assert spans.one("process q").parent is None


def test_a_trace_that_is_not_sampled_is_continued_unrecorded(spans):
    with span_of_message("process q", SpanKind.CONSUMER, {}, traceparent=f"{ONE[:-2]}00"):
        continued = current_traceparent()

    assert trace_id_of(continued) == trace_id_of(ONE)
    assert continued.endswith("-00")
    assert spans.named("process q") == []


def test_work_on_an_image_stays_in_its_own_trace(spans):
    """In the trace of its record it is a child; within another one, and without one, it is linked to the current."""
    with span_of_message("process q", SpanKind.CONSUMER, {}, traceparent=ONE, image_id="a"):
        for name, image_id, traceparent in [
            ("own", "a", ONE),
            ("next", "b", OTHER),
            ("untraced", "c", None),
            ("same", "a", None),
        ]:
            with span_about(image_id, traceparent, name, SpanKind.PRODUCER, {}):
                pass
        assert traceparent_about("a", ONE) == current_traceparent()
        assert traceparent_about("b", OTHER) == OTHER

    process = spans.one("process q")
    assert is_child(spans.one("own"), process)
    assert is_child(spans.one("same"), process)
    assert (trace_id(spans.one("next")), parent_id(spans.one("next"))) == tuple(OTHER.split("-")[1:3])
    assert spans.one("untraced").parent is None
    for name in ("next", "untraced"):
        assert [link.context.span_id for link in spans.one(name).links] == [process.context.span_id]


def test_an_error_is_recorded_without_its_text(spans):
    with pytest.raises(Rejected), span("paint"):
        raise Rejected("the prompt 'a secret' is refused")
    with pytest.raises(asyncio.CancelledError), span("wait"):
        raise asyncio.CancelledError

    failed = spans.one("paint")
    assert failed.attributes == {"error.type": "inference_refused"}
    assert "secret" not in failed.to_json()
    assert spans.one("wait").status.is_unset


async def test_a_retry_continues_the_trace_of_its_message(spans, bus):
    """Each delivery is a span of its own; the image keeps the context that its handler has got."""
    outcomes = [Retry(0), Reject("unknown_image: it has no record"), Done()]
    given = []

    async def handle(message):
        given.append(message)
        return outcomes.pop(0)

    async with bus.consume(WorkQueue.GENERATE, handle, concurrency=1):
        await bus.send(GenerateImage(id="a", source="api", traceparent=ONE))
        await until(lambda: len(spans.named("process image.work.default")) == 2)
        await bus.send(GenerateImage(id="b", source="api"))
        await until(lambda: len(spans.named("process image.work.default")) == 3)

    sent, untraced = spans.named("send image.work.default")
    first, second, third = spans.named("process image.work.default")
    assert (trace_id(sent), parent_id(sent)) == tuple(ONE.split("-")[1:3])
    assert is_child(first, sent)
    assert is_child(second, sent)
    assert is_child(third, untraced)
    assert untraced.parent is None
    assert [each.attributes["darkroom.outcome"] for each in (first, second, third)] == ["retry", "dead_letter", "done"]
    assert second.attributes["error.type"] == "unknown_image"
    assert [trace_id_of(message.traceparent) for message in given] == [
        trace_id(each) for each in (first, second, third)
    ]


async def test_a_request_of_another_service_gets_a_trace(spans, bus):
    """Its record is made of the command that the handler has got, so all that follows is in the same trace."""
    given = []

    async def handle(message):
        given.append(message)
        return Done()

    body = b'{"specversion":"1.0","id":"a","source":"s","type":"image.generate","traceparent":7,"data":{"prompt":"p"}}'
    async with bus.consume(WorkQueue.INTAKE, handle, concurrency=1):
        bus._bus.inject(WorkQueue.INTAKE, body)
        await until(lambda: spans.named("process image.generate"))

    assert isinstance(given[0].data, GenerationRequest)
    assert trace_id_of(given[0].traceparent) == trace_id(spans.one("process image.generate"))


async def test_a_dead_letter_is_handled_in_its_trace(spans, bus):
    async def reject(_message):
        return Reject("unknown_image")

    async def handle(_letter):
        return Done()

    async with (
        bus.consume(WorkQueue.GENERATE, reject, concurrency=1),
        bus.consume(WorkQueue.DEAD, handle, concurrency=1),
    ):
        await bus.send(GenerateImage(id="a", source="api", traceparent=ONE))
        bus._bus.inject(WorkQueue.GENERATE, b"\xff{" * 10)
        await until(lambda: len(spans.named("process image.dead")) == 2)

    assert {trace_id(each) == trace_id_of(ONE) for each in spans.named("process image.dead")} == {True, False}


async def test_a_batch_and_a_cancel_are_in_the_trace_of_the_request(spans, bus, tmp_path):
    """Each image of a batch has spans of its own in one trace. A cancel from another trace is linked to, no parent."""
    clock = ManualClock(NOON)
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store:
        outbox = an_outbox(bus, store, clock, source="api")
        with span_of_message("POST", SpanKind.SERVER, {}, traceparent=ONE):
            first = a_batch(2, created_at=NOON, traceparent=current_traceparent())
            for image in [first, *missing_members(first)]:
                await store.insert(image)
                await outbox.dispatch(image)
        with span_of_message("DELETE", SpanKind.SERVER, {}, traceparent=OTHER):
            cancelled = await change(store, first.id, partial(transitions.cancel, now=NOON))
            await outbox.publish_pending(cancelled)

    post = spans.one("POST")
    assert len(spans.named("send image.work.default")) == 2
    assert all(is_child(each, post) for each in spans.named("send image.work.default"))
    of_cancel = spans.named("send image.events")[-1]
    assert of_cancel.attributes["messaging.rabbitmq.destination.routing_key"] == "image.cancelled"
    assert is_child(of_cancel, post)
    assert [link.context.trace_id for link in of_cancel.links] == [spans.one("DELETE").context.trace_id]


async def test_progress_has_no_spans(spans, bus, tmp_path):
    clock = ManualClock(NOON)
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store:
        outbox = an_outbox(bus, store, clock)
        await outbox.publish_progress(an_image(traceparent=ONE), step=1, steps=2, seconds_left=None)

    assert spans.named("send image.events") == []


async def test_a_request_continues_the_trace_of_its_client(spans):
    """The header of a client counts if there is one. A server that fails is a failed span; others have the status."""

    async def answer(request):
        if "error" in request.query:
            raise web.HTTPFound("/elsewhere")
        return web.Response(status=503, text=current_traceparent() or "")

    app = web.Application(middlewares=[traced_requests(base_path="/draw", untraced=("/healthz",))])
    app.router.add_get("/draw/a/{id}", answer)
    app.router.add_get("/draw/healthz", answer)
    async with serving(app, host="127.0.0.1", port=0, stop_timeout_s=1) as port:
        url = f"http://127.0.0.1:{port}/draw"
        async with ClientSession(trace_configs=client_tracing()) as http:
            with span_of_message("client", SpanKind.CLIENT, {}, traceparent=ONE):
                async with http.get(f"{url}/a/1") as response:
                    assert trace_id_of(await response.text()) == trace_id_of(ONE)
            async with http.get(
                f"{url}/a/1?error=1", headers=[("traceparent", ONE), ("traceparent", OTHER)], allow_redirects=False
            ):
                pass
            async with http.get(f"{url}/healthz"), http.get(f"{url}/nothing"):
                pass

    failed, redirected = spans.named("GET /a/{id}")
    assert is_child(failed, spans.one("client"))
    assert failed.attributes["error.type"] == "503"
    assert redirected.parent is None
    assert redirected.attributes["http.response.status_code"] == 302
    assert redirected.status.is_unset
    assert len(spans.named("GET /healthz")) == 0


def test_the_header_of_a_message_stands_in_for_its_envelope():
    def with_header(message, value):
        raw = Mock()
        raw.header.properties.headers = {"traceparent": value}
        return with_traceparent(message, Delivery(raw))

    command = CancelImage(id="a", source="s", subject="i")
    assert with_header(command, ONE).traceparent == ONE
    assert with_header(command.model_copy(update={"traceparent": OTHER}), ONE).traceparent == OTHER
    assert with_header(command, b"\xff").traceparent is None


async def test_traces_without_their_packages_are_refused(monkeypatch):
    settings = read_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
    monkeypatch.setitem(sys.modules, "common.runtime.tracing.otel", None)

    with pytest.raises(Misconfigured, match=r"OTEL_EXPORTER_OTLP_ENDPOINT: .* pip install 'darkroom\[otel\]'"):
        async with tracing(settings, service="darkroom"):
            pass


def test_a_delivery_of_an_older_release_has_no_trace():
    fields = {
        "id": "i.1",
        "owner": "o",
        "type": "t",
        "url": "https://h/",
        "body": "{}",
        "created_at": NOON,
        "due": None,
    }

    assert WebhookDelivery.model_validate(fields).traceparent is None
