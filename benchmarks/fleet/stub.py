"""An inference service that sleeps: `python -m benchmarks.fleet.stub PORT`.

    /GROUP/BACK_END/inference/images/generations   a painting on a slot of this generator: sleep, then a tiny JPEG
    /plan                                          the times of the paintings that begin from now on
    /paintings, /busy                              what was painted, by this process's clock (`time.monotonic`)

A painting whose client goes away ends at once, as docs/inference-http.md asks for.
"""

from __future__ import annotations

import asyncio
import random
import resource
import sys
import time
from collections import Counter
from io import BytesIO
from typing import Any

from aiohttp import web
from PIL import Image

SIDE = 64


class SleepingPainter:
    """`aged` paintings are half done when they begin, so that a fleet which is filled at once is in a steady state.

    So many paintings as `together` says begin at the same moment: when the last of them has come.
    """

    def __init__(self) -> None:
        self._dice = random.Random(1)
        self._mean_s, self._is_equal, self._aged = 1.0, True, 0
        self._together, self._begin = 0, asyncio.Event()
        self._paintings: list[list[Any]] = []  # group, image, began, seconds, ended or None, answered
        self._picture = BytesIO()
        Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB").save(self._picture, "JPEG")

    async def plan(self, request: web.Request) -> web.Response:
        plan = await request.json()
        self._mean_s, self._is_equal, self._aged = plan["mean_s"], plan["is_equal"], plan["aged"]
        self._together, self._begin = plan["together"], asyncio.Event()
        return web.Response()

    async def paint(self, request: web.Request) -> web.Response:
        await request.read()
        now, takes_s = time.monotonic(), self._seconds()
        painting = [request.match_info["group"], request.headers.get("Idempotency-Key", ""), now, takes_s, None, False]
        self._paintings.append(painting)
        try:
            if self._together:
                now = painting[2] = await self._until_all_are_here()
            await asyncio.sleep(now + takes_s - time.monotonic())
            painting[5] = True
        finally:
            painting[4] = time.monotonic()
        return web.Response(body=self._picture.getvalue(), content_type="image/jpeg")

    async def paintings(self, _request: web.Request) -> web.Response:
        return web.json_response(self._paintings)

    async def busy(self, _request: web.Request) -> web.Response:
        return web.json_response(Counter(group for group, _, _, _, ended, _ in self._paintings if ended is None))

    async def _until_all_are_here(self) -> float:
        self._together -= 1
        if self._together:
            await self._begin.wait()
        else:
            self._begin.set()
        return time.monotonic()

    def _seconds(self) -> float:
        """What is left of an aged painting is any share of a time that is drawn by its length."""
        if self._is_equal:
            return self._mean_s
        share = self._dice.uniform(0.5, 1.5)
        if self._aged:
            self._aged -= 1
            while self._dice.uniform(0, 1.5) > share:
                share = self._dice.uniform(0.5, 1.5)
            share *= self._dice.random()
        return share * self._mean_s


def build_app() -> web.Application:
    painter = SleepingPainter()
    app = web.Application()
    app.router.add_post("/{group}/{backend}/inference/images/generations", painter.paint)
    app.router.add_post("/plan", painter.plan)
    app.router.add_get("/paintings", painter.paintings)
    app.router.add_get("/busy", painter.busy)
    return app


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    web.run_app(
        build_app(),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        print=None,
        handler_cancellation=True,
        keepalive_timeout=3600,
        backlog=4096,
    )
