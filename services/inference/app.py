"""The HTTP interface of an inference server; docs/inference-http.md describes it.

    POST /inference/images/generations   an order; the response is the picture or a stream of events
    GET  /inference/capabilities         models, samplers, limits
    GET  /healthz                        health

It does not know which engine it serves, and it reads no settings.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from common.domain.errors import Invalid
from common.domain.images import parse_image_id
from common.runtime.accept import Accept
from common.runtime.addresses import is_allowed_host
from common.runtime.logs import log_context
from common.runtime.tracing.http import header_traceparent, traced_requests
from services.inference.engine import InferenceRequest, OrderRefused, PictureFormat, Preview
from services.inference.jobs import Busy, Closing, EngineFailed, KeyReused, PaintJob, PaintQueue
from services.inference.problems import HttpProblem, as_json, parse_order, read_object

# Two prompts of 4,000 emoji, each written as two escapes (\uXXXX) as Python's json does, take 96 kB.
MAX_BODY_BYTES = 256 * 1024
MAX_KEY_CHARS = 255
BODY_TIMEOUT_S = 30.0  # a connection that is fast enough for the picture sends the body sooner
KEEP_ALIVE_S = 15.0  # between comments on an idle stream: proxies close idle connections after 30 to 60 s

_TYPES: dict[str, PictureFormat] = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp"}
_EVENTS = "text/event-stream"
_PROBLEMS: dict[type[Exception], tuple[HTTPStatus, str]] = {
    Busy: (HTTPStatus.TOO_MANY_REQUESTS, "busy"),
    KeyReused: (HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency_key_reused"),
    OrderRefused: (HTTPStatus.UNPROCESSABLE_ENTITY, "refused"),
    Closing: (HTTPStatus.SERVICE_UNAVAILABLE, "shutting_down"),
    EngineFailed: (HTTPStatus.INTERNAL_SERVER_ERROR, "engine_failed"),
}


def build_app(
    jobs: PaintQueue,
    *,
    api_key: str | None,
    keep_alive_s: float = KEEP_ALIVE_S,
    allowed_hosts: Collection[str] = (),
) -> web.Application:
    """Build the application. Run it with `handler_cancellation=True` (`web.AppRunner`, `web.run_app`).

    Without that option aiohttp does not cancel the handler of a closed connection, and the work goes on.
    At shutdown, waiting orders are refused (503) at once; running ones have the runner's `shutdown_timeout` to finish.

    Args:
        api_key: the key that clients must send; None turns authentication off.
        allowed_hosts: the host names of this server (`is_allowed_host`); empty allows any.
    """
    server = _Server(jobs, keep_alive_s)
    traced = traced_requests(untraced=("/healthz", "/healthz/", "/inference/capabilities", "/inference/capabilities/"))
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[traced, as_json, _guard(api_key, allowed_hosts)])
    for slash in ("", "/"):
        app.router.add_post(f"/inference/images/generations{slash}", server.generate)
        app.router.add_get(f"/inference/capabilities{slash}", server.capabilities)
        app.router.add_get(f"/healthz{slash}", server.healthz)
    app.on_shutdown.append(lambda _: jobs.drain())
    app.on_cleanup.append(lambda _: jobs.close())
    return app


class _Server:
    def __init__(self, jobs: PaintQueue, keep_alive_s: float) -> None:
        self._engine = jobs.engine
        self._jobs = jobs
        self._keep_alive_s = keep_alive_s

    async def healthz(self, _: web.Request) -> web.Response:
        state = "shutting down" if self._jobs.is_closing else "ok"
        body = {"status": state, "engine": self._engine.name, "loading": self._engine.loading}
        counts = {"painting": self._jobs.painting, "waiting": self._jobs.waiting}
        status = HTTPStatus.SERVICE_UNAVAILABLE if self._jobs.is_closing else HTTPStatus.OK
        return web.json_response(body | counts, status=status)

    async def capabilities(self, _: web.Request) -> web.Response:
        return web.json_response(self._engine.capabilities().model_dump(mode="json"))

    async def generate(self, request: web.Request) -> web.StreamResponse:
        order, key, streams = await self._read_order(request)
        try:
            with _log_context(key, header_traceparent(request)):
                async with self._jobs.join(order, key, views=streams) as job:
                    return await (self._stream(request, job) if streams else self._answer(job))
        except tuple(_PROBLEMS) as error:
            raise _problem(error) from error

    async def _read_order(self, request: web.Request) -> tuple[InferenceRequest, str | None, bool]:
        """Returns the order, its idempotency key, and whether the client wants events."""
        if request.content_type != "application/json" and not request.content_type.endswith("+json"):
            detail = f"expected Content-Type application/json, got {request.content_type[:100]}"
            raise HttpProblem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
        key = request.headers.get("Idempotency-Key")
        if key is not None and not 0 < len(key) <= MAX_KEY_CHARS:
            detail = f"Idempotency-Key: expected 1 to {MAX_KEY_CHARS} characters, got {len(key)}"
            raise HttpProblem(HTTPStatus.BAD_REQUEST, "bad_request", detail)
        body = read_object(await self._body(request))
        accept = Accept.parse(request.headers.getall("Accept", []))
        if "format" not in body and (media_type := accept.best(list(_TYPES))):
            body["format"] = _TYPES[media_type]
        return parse_order(body, self._engine.capabilities()), key, accept.names(_EVENTS)

    async def _body(self, request: web.Request) -> bytes:
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                return await request.read()
        except TimeoutError as error:
            detail = f"the body did not arrive within {BODY_TIMEOUT_S:.0f} s"
            raise HttpProblem(HTTPStatus.REQUEST_TIMEOUT, "body_timeout", detail) from error

    async def _answer(self, job: PaintJob) -> web.Response:
        picture = await job.picture()
        headers = {"X-Seed": str(picture.seed), "Cache-Control": "no-store"}
        return web.Response(body=picture.content, content_type=f"image/{picture.format}", headers=headers)

    async def _stream(self, request: web.Request, job: PaintJob) -> web.StreamResponse:
        """Send server-sent events (WHATWG HTML, 9.2): each step, some previews, then the picture or an error."""
        # X-Accel-Buffering: without it nginx delays events until its buffer is full.
        headers = {"Content-Type": _EVENTS, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        try:
            await response.prepare(request)
            await self._send_progress(response, job)
            await response.write(await _last_event(job))
            await response.write_eof()
        except ConnectionResetError:  # the client closed the connection
            pass
        return response

    async def _send_progress(self, response: web.StreamResponse, job: PaintJob) -> None:
        seen, shown = 0, None
        while not job.is_over or seen < job.step:
            try:
                async with asyncio.timeout(self._keep_alive_s):
                    await job.wait_beyond(seen)
            except TimeoutError:
                await response.write(b": waiting\n\n")
            reached, preview = job.step, job.preview
            if preview is not shown and preview is not None:
                await response.write(_preview(*preview))
            for step in range(seen + 1, reached + 1):
                await response.write(_event("progress", {"step": step, "steps": job.steps}))
            seen, shown = reached, preview


def _log_context(key: str | None, traceparent: str | None) -> AbstractContextManager[None]:
    """A generator of Darkroom begins its keys with the id of the image."""
    try:
        return log_context(parse_image_id((key or "")[:36]), traceparent)
    except Invalid:
        return nullcontext()


def _preview(step: int, preview: Preview) -> bytes:
    encoded = base64.b64encode(preview.content).decode()
    return _event("preview", {"b64_json": encoded, "format": preview.format, "step": step})


async def _last_event(job: PaintJob) -> bytes:
    try:
        picture = await job.picture()
    except tuple(_PROBLEMS) as error:
        problem = _problem(error)
        return _event("error", {"code": problem.code, "detail": problem.detail})
    encoded = base64.b64encode(picture.content).decode()
    return _event("completed", {"b64_json": encoded, "format": picture.format, "seed": picture.seed})


def _event(name: str, data: dict[str, object]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def _problem(error: Exception) -> HttpProblem:
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, Busy) else None
    return HttpProblem(*_PROBLEMS[type(error)], str(error), headers=headers)


def _guard(api_key: str | None, allowed_hosts: Collection[str]) -> Middleware:
    """Require the API key on all paths below /inference/; health needs no key.

    Other host names are refused: by these a page of any site can reach a server on loopback (DNS rebinding).
    """
    expected = f"Bearer {api_key}".encode() if api_key else None

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if allowed_hosts and not is_allowed_host(request.host, allowed_hosts):
            detail = f"the host {request.host[:100]!r} is not a name of this server; ALLOWED_HOSTS lists them"
            raise HttpProblem(HTTPStatus.FORBIDDEN, "host_not_allowed", detail)
        if expected and request.path.startswith("/inference/"):
            given = request.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(errors="surrogateescape"), expected):
                got = "a wrong key" if given else "no Authorization header"
                detail = f"expected Authorization: Bearer with the API key of this server, got {got}"
                headers = {"WWW-Authenticate": "Bearer"}
                raise HttpProblem(HTTPStatus.UNAUTHORIZED, "unauthorized", detail, headers=headers)
        return await handler(request)

    return guard
