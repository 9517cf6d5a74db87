"""An answer of the inference service that a test controls step by step."""

import asyncio
import base64
import json

from aiohttp import web

from tests.inference_double import picture, preview

CAPABILITIES = {
    "engine": "stub",
    "notice": "Pictures of a test.",
    "models": [
        {"id": "sdxl", "name": "SDXL", "samplers": ["Euler", "DDIM"]},
        {
            "id": "plain",
            "name": "Plain",
            "samplers": ["LCM"],
            "max_width": 512,
            "max_height": 512,
            "max_steps": 8,
            "hires_fix": False,
            "negative_prompt": False,
        },
    ],
}


class InferenceStub:
    """The answer to one request; pass it to `Inference.will`."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.dropped = asyncio.Event()
        self._events: asyncio.Queue[tuple[str, dict] | None] = asyncio.Queue()

    def step(self, step: int, steps: int) -> None:
        self._events.put_nowait(("progress", {"step": step, "steps": steps}))

    def preview(self, content: bytes, step: int, steps: int) -> None:
        self._events.put_nowait(preview(content, step))
        self.step(step, steps)

    def finish(self) -> None:
        self._events.put_nowait(None)

    async def __call__(self, request: web.Request, order: dict) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self.begun.set()
        try:
            while event := await self._events.get():
                await _say(response, *event)
        except asyncio.CancelledError:
            self.dropped.set()
            raise
        content = picture(size=(order["width"], order["height"]))
        await _say(response, "completed", {"b64_json": base64.b64encode(content).decode(), "format": "png", "seed": 7})
        return response


async def _say(response: web.StreamResponse, event: str, data: dict) -> None:
    await response.write(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())
