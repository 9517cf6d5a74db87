"""Attempts that go wrong in ways that nobody foresaw.

Also of services that deny the generator itself, of odd texts and dates, and of two claims at once.
"""

import asyncio
import json
import logging
import socket
import ssl
from datetime import timedelta
from functools import partial
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from common.bus.port import Since
from common.domain import transitions
from common.domain.errors import Denied, InvalidTransition, Unavailable, Unconfirmed, Unreachable
from common.domain.images import Failure, Lease
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from common.store.port import change
from services.generator import generate, outcomes, progress
from services.generator.inference.connect import connect_inference
from services.generator.inference.native.backend import NativeBackend
from tests.inference_double import completed, events, inference_double, paint, picture, status
from tests.making import a_job
from tests.odd_pictures import ODD_DATES, ODD_TEXTS
from tests.servers.proxies import Certificate
from tests.unit.generator.test_generate import FAST, bench
from tests.waiting import until


def raising(error: BaseException):
    def call(*_arguments, **_options):
        raise error

    return call


ERRORS = {
    "plain": ValueError("not foreseen"),
    "overflow": OverflowError("date value out of range"),
    "memory": MemoryError(),
    "recursion": RecursionError(),
    "surrogate": UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    "group": ExceptionGroup("several", [ExceptionGroup("inner", [KeyError("deep")])]),
    "leaked cancel": asyncio.CancelledError(),
}


@pytest.mark.border(rule="B1")
@pytest.mark.parametrize("name", ERRORS)
async def test_an_unforeseen_error_ends_its_attempt_with_a_code(tmp_path, caplog, monkeypatch, name):
    monkeypatch.setattr(generate, "finish", raising(ERRORS[name]))
    async with bench(tmp_path) as made:
        image = await made.final(await made.order())

        assert (image.status, image.attempts, image.failures, image.lost) == ("failed", 3, 3, 0)
        assert (image.error.code, "log of the generator" in image.error.detail) == ("internal", True)
        assert made.files() == []
    assert [record.exc_info is not None for record in caplog.records if record.levelno >= logging.ERROR] == [True] * 3


@pytest.mark.border(rule="B1")
@pytest.mark.parametrize("where", ["complete", "put", "paint", "progress", "started"])
async def test_an_unforeseen_error_costs_at_most_its_attempt(tmp_path, monkeypatch, where):
    left = [True]

    def once(real):
        def call(*arguments, **options):
            if left and left.pop():
                raise ValueError("not foreseen")
            return real(*arguments, **options)

        return call

    async with bench(tmp_path) as made:
        made.inference.capabilities = {"models": []}
        made.inference.always(events(("progress", {"step": 1, "steps": 4}), completed(picture())))
        target, name = {
            "complete": (transitions, "complete"),
            "put": (type(made.media), "put"),
            "paint": (NativeBackend, "_paint"),
            "progress": (progress.ProgressPublisher, "_seconds_left"),
            "started": (made.outbox.events.__class__, "progressed"),
        }[where]
        monkeypatch.setattr(target, name, once(getattr(target, name)))
        image = await made.final(await made.order())

        harmless = where in {"progress", "started"}
        assert (image.status, image.failures) == ("completed", 0 if harmless else 1)
        assert made.files() == [image.image_file, image.thumbnail]
    assert not left


@pytest.mark.border(rule="B1")
@pytest.mark.parametrize("date", ODD_DATES, ids=lambda date: date[:30] or "empty")
async def test_an_odd_retry_after_is_ignored_or_limited(tmp_path, date):
    async with bench(tmp_path, GENERATION_DEADLINE="900") as made:
        made.inference.will(status(503, headers={"Retry-After": date}))
        image_id = await made.order()

        async for entry in made.bus.read(Since(made.clock.now() - timedelta(hours=1))):
            if entry.event.type == "image.queued" and entry.event.data.error:
                break

        image = await made.store.get(image_id)
        assert (image.failures, image.error.code) == (1, "inference_failed")
        assert entry.event.data.retry_at - entry.event.time <= timedelta(seconds=901)


@pytest.mark.border(rule="B5")
@pytest.mark.parametrize("text", ODD_TEXTS, ids=lambda text: text[:20] or "empty")
@pytest.mark.parametrize("as_event", [False, True], ids=["status", "event"])
async def test_texts_of_the_service_are_cleaned(tmp_path, text, as_event):
    async def as_error_event(request, _order):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        data = json.dumps({"code": "refused", "detail": text})
        await response.write(f"event: error\ndata: {data}\n\n".encode())
        return response

    async with bench(tmp_path) as made:
        made.inference.capabilities = {"models": []}
        made.inference.will(as_error_event if as_event else status(422, text))
        image = await made.final(await made.order())

        assert (image.status, image.attempts, image.error.code) == ("failed", 1, "inference_refused")
        assert len(image.error.detail) <= 500
        assert not image.error.detail or image.error.detail.isprintable()


@pytest.mark.border(rule="B5")
def test_a_recorded_failure_has_a_code_and_a_text_of_one_line():
    odd = Failure(code="Привет\n", detail="\ud800 a\x00b\r\nc \u202e" + "x" * 10_000)

    assert odd.code == "internal"
    assert odd.detail.startswith("a b c xxx")
    assert len(odd.detail) == 500
    assert odd == Failure.model_validate_json(odd.model_dump_json())


SECRET = "key sk-1234 of account 77 is not known"
DENIALS = {
    **{str(code): status(code, SECRET) for code in (401, 402, 403, 405, 407, 421, 501, 511)},
    **{
        f"event {code}": events(("progress", {"step": 1, "steps": 4}), ("error", {"code": code, "detail": SECRET}))
        for code in ("unauthorized", "forbidden", "payment_required")
    },
}


@pytest.mark.border(rule="B5")
@pytest.mark.parametrize("name", ["host\r\nINFO forged", "\x1b[2J", "h" * 5000, "\u202etsoh", "half \ud800"], ids=ascii)
async def test_the_name_of_a_worker_is_cleaned(tmp_path, monkeypatch, name):
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    async with bench(tmp_path) as made:
        made.inference.will(made.inference.hold)
        image_id = await made.order()
        await made.inference.held.wait()
        worker = (await made.store.get(image_id)).lease.worker
        made.inference.released.set()
        await made.final(image_id)

    assert worker.isprintable()
    assert 0 < len(worker) <= 100


@pytest.mark.border(rule="B6")
@pytest.mark.parametrize("denial", DENIALS)
@pytest.mark.long_unless("401", "403", "event payment_required")
async def test_an_image_waits_for_a_service_that_denies_us(tmp_path, caplog, denial):
    caplog.set_level(logging.INFO)
    async with bench(tmp_path) as made:
        made.inference.capabilities = {"models": []} if "event" in denial else None
        made.inference.will(*[DENIALS[denial]] * 3)
        image_id = await made.order()
        image = await made.final(image_id)
        published = await made.events(image_id, "completed")

        assert (image.status, image.attempts, image.failures, image.lost) == ("completed", 4, 0, 0)
        errors = [event.data.error for event in published if event.type == "image.queued" and event.data.error]
        assert {error.code for error in errors} == {"inference_unavailable"}
        assert len({error.detail for error in errors}) == 1
        assert "sk-1234" not in errors[0].detail
    assert len([record for record in caplog.records if "sk-1234" in record.getMessage()]) == 1


@pytest.mark.border(rule="B6")
async def test_a_404_about_one_order_delays_no_other(tmp_path):
    """The route exists, so the 404 is about a field of the order, such as its model."""
    async with bench(tmp_path) as made:
        made.inference.will(status(404, "no such model"))
        refused = await made.final(await made.order())
        other = await made.final(await made.order())

    assert (refused.status, refused.attempts, refused.error.code) == ("failed", 1, "inference_refused")
    assert "no such model" in refused.error.detail
    assert (other.status, other.attempts) == ("completed", 1)


@pytest.mark.border(rule="B6")
async def test_a_404_of_a_missing_route_is_the_operators():
    async with inference_double() as server, aiohttp.ClientSession() as http:
        url = f"{server.url}/elsewhere"
        backend = connect_inference(url, http=http, settings=read_settings({}), clock=SystemClock())
        with pytest.raises(Denied):
            await backend.generate(a_job(), lambda *_: None)


@pytest.mark.border(rule="B6")
@pytest.mark.parametrize(("speaks_tls", "error"), [(True, Denied), (False, Unreachable)])
async def test_a_service_whose_tls_is_wrong_counts_no_failure(tmp_path, speaks_tls, error):
    """A certificate that signs itself, and a port that speaks plain HTTP where the URL says https."""
    context = None
    if speaks_tls:
        certificate = Certificate.made(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.path, certificate.key)
    server = TestServer(web.Application())
    await server.start_server(ssl=context)
    async with server, aiohttp.ClientSession() as http:
        url = f"https://127.0.0.1:{server.port}"
        backend = connect_inference(url, http=http, settings=read_settings(FAST), clock=SystemClock())

        with pytest.raises(error):
            await backend.generate(a_job(), lambda *_: None)


@pytest.mark.border(rule="A2")
async def test_a_claim_is_fenced_against_its_own_process(tmp_path):
    """Two deliveries of one command in one process: a second bus connection does not share the deduplication."""
    async with bench(tmp_path) as made:
        made.inference.will(made.inference.hold)
        image_id = await made.order()
        await made.inference.held.wait()
        first = await made.store.get(image_id)

        lease = first.lease.model_copy(update={"token": "another claim"})
        for transition in (
            lambda image: transitions.claim(image, lease=lease, now=made.clock.now(), deadline=timedelta(minutes=15)),
            lambda image: transitions.renew(image, lease=lease, attempt=1),
            lambda image: transitions.give_back(image, lease=lease, attempt=1, now=made.clock.now()),
        ):
            with pytest.raises(InvalidTransition):
                await change(made.store, image_id, transition)
        made.inference.released.set()
        image = await made.final(image_id)

        assert (image.status, image.attempts) == ("completed", 1)
        assert made.files() == [image.image_file, image.thumbnail]


@pytest.mark.border(rule="A2")
async def test_two_claims_of_one_process_have_two_tokens(tmp_path):
    tokens = set()

    async def noted(request, order):
        tokens.add((await made.store.get(request.headers["Idempotency-Key"])).lease.token)
        return await paint(request, order)

    async with bench(tmp_path) as made:
        made.inference.always(noted)
        for _ in range(3):
            await made.final(await made.order())

    assert len(tokens) == 3


@pytest.mark.border(rule="A2")
@pytest.mark.parametrize(
    "end", [outcomes.remove_files, partial(outcomes.give_back, has_message=True)], ids=["remove_files", "give_back"]
)
@pytest.mark.parametrize("token", ["its own", "another claim"])
async def test_files_that_the_record_names_are_never_removed(tmp_path, end, token):
    """A claim that lost: it has the attempt of the winner, as when a store took its write twice."""
    async with bench(tmp_path) as made:
        image = await made.final(await made.order())
        lease = Lease(token=token, worker="w", until=made.clock.now())
        context = SimpleNamespace(
            store=made.store, media=made.media, clock=made.clock, lease_of=lambda image: image.lease
        )
        stale = image.model_copy(update={"status": "running", "lease": lease, "image_file": None, "thumbnail": None})

        await end(stale, context)

        assert made.files() == [image.image_file, image.thumbnail]
        assert await made.store.get(image.id) == image


class LostAnswers:
    """A store that takes the write of each completed record, once without an answer."""

    def __init__(self, store, error: BaseException) -> None:
        self._store = store
        self._errors = [error]

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def replace(self, image):
        is_replaced = await self._store.replace(image)
        if image.status == "completed" and self._errors:
            raise self._errors.pop()
        return is_replaced


@pytest.mark.border(rule="A2")
@pytest.mark.parametrize(
    "error",
    [Unavailable("store"), Unconfirmed("store"), ValueError("not foreseen"), asyncio.CancelledError()],
    ids=repr,
)
async def test_a_picture_whose_record_was_written_is_kept(tmp_path, monkeypatch, error):
    """The worker does not know that it has won, and cleans up behind itself."""
    monkeypatch.setattr("services.generator.context.STORE_PAUSE_S", 0.01)

    def losing(port):
        return LostAnswers(port, error) if hasattr(port, "replace") else port

    async with bench(tmp_path, seen_by_worker=losing) as made:
        image_id = await made.order()
        await until(lambda: _is_completed(made, image_id))
        made.stopping.set()
        await made.task  # with all that it removes

        image = await made.store.get(image_id)
        assert (image.status, image.attempts) == ("completed", 1)
        assert made.files() == [image.image_file, image.thumbnail]


async def _is_completed(made, image_id) -> bool:
    return (await made.store.get(image_id)).status == "completed"
