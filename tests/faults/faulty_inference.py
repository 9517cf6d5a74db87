"""`python -m tests.faults.faulty_inference`: an inference service that fails by chance.

It keeps the contract: a repeated key waits for the same painting or gets the finished one, so an image that is painted
twice was requested under two keys. A prompt may select an answer: `busy at first`, `refuse this`, `takes long`.

    INFERENCE_PORT     where it listens
    PAINTER_SEED       the seed of all chance
    PAINTER_FAULTS     the share of answers that are a 503, hang, are no image, or break off
    PAINTER_ODD        the share of answers that are odd: their metadata, text, header or form (tests/odd_answers.py)
    PAINT_S            the duration of a painting
    PAINTER_MODELS     the names of its models; none means that it takes any
    PAINTER_JOURNAL    a file that gets `painting <key>`, `painted <key>`, `spoilt <key>` and `odd <kind>: <name>`
"""

import asyncio
import os
import random
import signal

from aiohttp import web

from tests import odd_answers
from tests.inference_double import completed, events, picture
from tests.servers.parent_death import end_with_parent

HANG_S = 60.0
LONG_S = 20.0
# These ask for a wait of days, which ends with the deadline of the image.
LONG_WAITS = {"year 9999", "400 digits", "5000 digits"}
RETRY_AFTERS = sorted(odd_answers.RETRY_AFTERS.keys() - LONG_WAITS)


class FaultyInference:
    """Paints each key once."""

    def __init__(
        self, *, seed: str, faults: float, odd: float, paint_s: float, journal: str, models: list[str]
    ) -> None:
        self._dice = random.Random(seed)
        self._faults = faults
        self._odd = odd
        self._paint_s = paint_s
        self._models = models
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._paintings: dict[str, asyncio.Task[bytes]] = {}
        self._callers: dict[str, int] = {}
        self._sent_away: set[str] = set()

    def _note(self, line: str) -> None:
        os.write(self._journal, f"{line}\n".encode())

    async def generate(self, request: web.Request) -> web.StreamResponse:
        order = await request.json()
        key = request.headers["Idempotency-Key"]
        if "refuse this" in order["prompt"]:
            return web.Response(status=422, text="never")
        if "busy at first" in order["prompt"] and key not in self._sent_away:
            self._sent_away.add(key)
            return web.Response(status=503, text="busy")
        if self._dice.random() < self._faults:
            return await self._fail(request, key)
        if self._dice.random() < self._odd / 3:
            return self._fail_oddly()
        paint_s = LONG_S if "takes long" in order["prompt"] else self._paint_s * self._dice.uniform(0.5, 1.5)
        content = await self._painted(key, (order["width"], order["height"]), paint_s)
        if "text/event-stream" in request.headers["Accept"] and self._dice.random() < 0.5:
            if self._dice.random() < self._odd:
                return self._stream_oddly(content)
            step = ("progress", {"step": 1, "steps": order["steps"]})
            return await events(step, completed(content))(request, order)
        return web.Response(body=content, content_type="image/png")

    async def _painted(self, key: str, size: tuple[int, int], paint_s: float) -> bytes:
        """The work stops when the last caller disconnects, as the contract says."""
        painting = self._paintings.get(key)
        if painting is None:
            painting = self._paintings[key] = asyncio.create_task(self._paint(key, size, paint_s))
        self._callers[key] = self._callers.get(key, 0) + 1
        try:
            return await asyncio.shield(painting)
        finally:
            self._callers[key] -= 1
            if not painting.done() and not self._callers[key]:
                painting.cancel()
                del self._paintings[key]

    async def _paint(self, key: str, size: tuple[int, int], paint_s: float) -> bytes:
        self._note(f"painting {key}")
        await asyncio.sleep(paint_s)
        content, spoilt = self._drawn(size)
        self._note(f"{'spoilt' if spoilt else 'painted'} {key}")
        return content

    def _drawn(self, size: tuple[int, int]) -> tuple[bytes, bool]:
        """A picture, and whether it is none that may be taken."""
        if self._dice.random() < self._faults / 4:
            return picture(size=size)[:100], True
        if self._dice.random() >= self._odd:
            return picture(size=size), False
        spoilt = self._dice.random() < 0.3
        pictures = odd_answers.BAD_PICTURES if spoilt else odd_answers.SOUND_PICTURES
        name = self._dice.choice(sorted(pictures))
        self._note(f"odd picture: {name}")
        return pictures[name](size), spoilt

    def _fail_oddly(self) -> web.Response:
        """A transient error with an odd text and an odd wait."""
        text, wait = self._dice.choice(sorted(odd_answers.TEXTS)), self._dice.choice(RETRY_AFTERS)
        self._note(f"odd text: {text}")
        self._note(f"odd Retry-After: {wait}")
        headers = {"Retry-After": odd_answers.RETRY_AFTERS[wait]}
        return web.Response(status=self._dice.choice([429, 500, 503]), body=odd_answers.TEXTS[text], headers=headers)

    def _stream_oddly(self, content: bytes) -> web.Response:
        name = self._dice.choice(sorted(odd_answers.SOUND_STREAMS))
        self._note(f"odd stream: {name}")
        return web.Response(body=odd_answers.SOUND_STREAMS[name](content), content_type="text/event-stream")

    async def _fail(self, request: web.Request, key: str) -> web.StreamResponse:
        match self._dice.randrange(4):
            case 0:
                return web.Response(status=503, headers={"Retry-After": "1"}, text="busy")
            case 1:
                return web.Response(status=429, text="too many")
            case 2:
                await asyncio.sleep(HANG_S)
                return web.Response(status=504)
            case _:
                return await _broken_off(request, picture())

    async def describe(self, _request: web.Request) -> web.Response:
        return web.json_response({"models": [{"id": name} for name in self._models]})


async def _broken_off(request: web.Request, content: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(content)), "Content-Type": "image/png"})
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    assert request.transport
    request.transport.abort()
    return response


async def serve() -> None:
    service = FaultyInference(
        seed=os.environ.get("PAINTER_SEED", "0"),
        faults=float(os.environ.get("PAINTER_FAULTS", "0")),
        odd=float(os.environ.get("PAINTER_ODD", "0")),
        paint_s=float(os.environ.get("PAINT_S", "0.05")),
        journal=os.environ["PAINTER_JOURNAL"],
        models=os.environ.get("PAINTER_MODELS", "").split(),
    )
    app = web.Application()
    app.router.add_post("/inference/images/generations", service.generate)
    app.router.add_get("/inference/capabilities", service.describe)
    app.router.add_get("/healthz", service.describe)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(os.environ["INFERENCE_PORT"])).start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await runner.cleanup()


if __name__ == "__main__":
    end_with_parent()
    asyncio.run(serve())
