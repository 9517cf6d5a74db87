"""Polling of other processes, for conditions that no event announces."""

import asyncio
from collections.abc import Callable
from typing import Any

LIMIT_S = 60.0  # for conditions that take a second or two: at a load of 20 they took 40 s


async def until(is_so: Callable[[], Any], *, limit_s: float = LIMIT_S, pause_s: float = 0.05) -> None:
    """Return when `is_so`, which may be a coroutine function, returns true. TimeoutError after the limit."""
    async with asyncio.timeout(limit_s):
        while True:
            answer = is_so()
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer:
                return
            await asyncio.sleep(pause_s)
