"""The HTTP contract of an inference service, over any engine. docs/inference-http.md is its description.

    POST /inference/images/generations   an order; the answer is the picture, or its progress and then the picture
    GET  /inference/capabilities         models, samplers, limits
    GET  /healthz                        alive

It knows no engine by name and reads no settings: what it needs is passed in.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import re
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from common.runtime.clock import Clock
from services.inference.engine import Engine, InferenceRequest, PictureFormat, Preview
from services.inference.jobs import (
    MAX_WAITING,
    PREVIEW_INTERVAL_S,
    Busy,
    Closing,
    EngineFailed,
    KeyReused,
    PaintJob,
    PaintQueue,
)
from services.inference.problems import HttpProblem, as_json, parse_order, parsed_json

# Two prompts of 10,000 characters, each escaped as a pair of \uXXXX, make 240 kB: what Python's json makes of emoji.
MAX_BODY_BYTES = 256 * 1024
MAX_KEY_CHARS = 255
BODY_TIMEOUT_S = 30.0  # a body of that size takes less on any line that could carry the picture
KEEP_ALIVE_S = 15.0  # a comment this often while an order waits: proxies cut what is silent for 30 to 60 s

_TYPES: dict[str, PictureFormat] = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp"}
_EVENTS = "text/event-stream"
_WEIGHT = re.compile(r"[01](\.\d{0,3})?")  # RFC 9110, 12.4.2


def build_app(
    engine: Engine,
    *,
    api_key: str | None,
    concurrency: int,
    max_waiting: int = MAX_WAITING,
    keep_alive_s: float = KEEP_ALIVE_S,
    preview_interval_s: float = PREVIEW_INTERVAL_S,
    clock: Clock,
) -> web.Application:
    """The application. Run it with `handler_cancellation=True` (`web.AppRunner`, `web.run_app`).

    Without that, aiohttp lets a handler go on when its client has gone, and a dropped connection stops no work.
    At shutdown what waits is refused (503) at once; what is being painted has the runner's `shutdown_timeout`.

    `api_key` None lets everybody in. `concurrency` is the number of paintings at once, each in a thread of its own;
    `max_waiting` more may wait, the next is told 429.
    """
    jobs = PaintQueue(
        engine, concurrency=concurrency, max_waiting=max_waiting, preview_interval_s=preview_interval_s, clock=clock
    )
    server = _Server(engine, jobs, keep_alive_s)
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[as_json, _guard(api_key)])
    for slash in ("", "/"):
        app.router.add_post(f"/inference/images/generations{slash}", server.generate)
        app.router.add_get(f"/inference/capabilities{slash}", server.capabilities)
        app.router.add_get(f"/healthz{slash}", server.healthz)

    async def drain(_: web.Application) -> None:
        jobs.drain()

    async def close(_: web.Application) -> None:
        await jobs.close()

    app.on_shutdown.append(drain)
    app.on_cleanup.append(close)
    return app


class _Server:
    def __init__(self, engine: Engine, jobs: PaintQueue, keep_alive_s: float) -> None:
        self._engine = engine
        self._jobs = jobs
        self._keep_alive_s = keep_alive_s

    async def healthz(self, _: web.Request) -> web.Response:
        state = "shutting down" if self._jobs.is_closing else "ok"
        body = {"status": state, "engine": self._engine.name, "painting": self._jobs.painting}
        status = HTTPStatus.SERVICE_UNAVAILABLE if self._jobs.is_closing else HTTPStatus.OK
        return web.json_response({**body, "waiting": self._jobs.waiting}, status=status)

    async def capabilities(self, _: web.Request) -> web.Response:
        return web.json_response(self._engine.capabilities().model_dump(mode="json"))

    async def generate(self, request: web.Request) -> web.StreamResponse:
        order, key, streams = await self._read_order(request)
        try:
            async with self._jobs.join(order, key) as job:
                return await (self._stream(request, job) if streams else self._answer(job))
        except (Busy, Closing, KeyReused, EngineFailed) as error:
            raise _problem(error) from error

    async def _read_order(self, request: web.Request) -> tuple[InferenceRequest, str | None, bool]:
        """The order, its idempotency key, and whether the client wants events."""
        if request.content_type != "application/json" and not request.content_type.endswith("+json"):
            detail = f"expected Content-Type application/json, got {request.content_type[:100]}"
            raise HttpProblem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
        key = request.headers.get("Idempotency-Key")
        if key is not None and not 0 < len(key) <= MAX_KEY_CHARS:
            detail = f"Idempotency-Key: expected 1 to {MAX_KEY_CHARS} characters, got {len(key)}"
            raise HttpProblem(HTTPStatus.BAD_REQUEST, "bad_request", detail)
        body = parsed_json(await self._body(request))
        accepted = _accepted(",".join(request.headers.getall("Accept", [])))
        wanted = next((_TYPES[kind] for kind in accepted if kind in _TYPES), None)
        if wanted and "format" not in body:
            body["format"] = wanted
        return parse_order(body, self._engine.capabilities()), key, _EVENTS in accepted

    async def _body(self, request: web.Request) -> bytes:
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                return await request.read()
        except TimeoutError as error:
            detail = f"the body did not come within {BODY_TIMEOUT_S:.0f} s"
            raise HttpProblem(HTTPStatus.REQUEST_TIMEOUT, "body_timeout", detail) from error

    async def _answer(self, job: PaintJob) -> web.Response:
        picture = await job.picture()
        headers = {"X-Seed": str(picture.seed), "Cache-Control": "no-store"}
        return web.Response(body=picture.content, content_type=f"image/{picture.format}", headers=headers)

    async def _stream(self, request: web.Request, job: PaintJob) -> web.StreamResponse:
        """Server-sent events (WHATWG HTML, 9.2): each step, some previews, then the picture or what went wrong."""
        # X-Accel-Buffering: nginx would otherwise hold events back until its buffer is full.
        headers = {"Content-Type": _EVENTS, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        try:
            await response.prepare(request)
            with job.viewing():
                await self._send_progress(response, job)
            await response.write(await _last_event(job))
            await response.write_eof()
        except ConnectionResetError:  # the client has gone: nobody to tell
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
                await response.write(_event("progress", {"step": step, "steps": job.order.steps}))
            seen, shown = reached, preview


def _preview(step: int, preview: Preview) -> bytes:
    encoded = base64.b64encode(preview.content).decode()
    return _event("preview", {"b64_json": encoded, "format": preview.format, "step": step})


async def _last_event(job: PaintJob) -> bytes:
    try:
        picture = await job.picture()
    except (Closing, EngineFailed) as error:
        problem = _problem(error)
        return _event("error", {"code": problem.code, "detail": problem.detail})
    encoded = base64.b64encode(picture.content).decode()
    return _event("completed", {"b64_json": encoded, "format": picture.format, "seed": picture.seed})


def _event(name: str, data: dict[str, object]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def _problem(error: Exception) -> HttpProblem:
    if isinstance(error, Busy):
        headers = {"Retry-After": str(error.retry_after_s)}
        return HttpProblem(HTTPStatus.TOO_MANY_REQUESTS, "busy", str(error), headers=headers)
    if isinstance(error, KeyReused):
        return HttpProblem(HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency_key_reused", str(error))
    if isinstance(error, Closing):
        return HttpProblem(HTTPStatus.SERVICE_UNAVAILABLE, "shutting_down", "the server is shutting down")
    return HttpProblem(HTTPStatus.INTERNAL_SERVER_ERROR, "engine_failed", str(error))


def _guard(api_key: str | None) -> Middleware:
    """Lets nobody without the key at the engine; health is open."""
    expected = f"Bearer {api_key}".encode() if api_key else None

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if expected and request.path.startswith("/inference/"):
            given = request.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(errors="surrogateescape"), expected):
                what = "a wrong key" if given else "no Authorization header"
                detail = f"expected Authorization: Bearer with this server's API key, got {what}"
                headers = {"WWW-Authenticate": "Bearer"}
                raise HttpProblem(HTTPStatus.UNAUTHORIZED, "unauthorized", detail, headers=headers)
        return await handler(request)

    return guard


def _accepted(header: str) -> list[str]:
    """The media types of an Accept header, the most wanted first (RFC 9110, 12.5.1), without those of q=0."""
    ranked: list[tuple[float, str]] = []
    for entry in header.split(","):
        kind, *parameters = (part.strip().lower() for part in entry.split(";"))
        weight = next((one.removeprefix("q=") for one in parameters if one.startswith("q=")), "1")
        ranked.append((float(weight) if _WEIGHT.fullmatch(weight) else 1.0, kind))
    return [kind for weight, kind in sorted(ranked, key=lambda one: -one[0]) if weight > 0]
