"""Waiting for what no event tells: another process is asked, or looked at, again and again."""

import asyncio
from collections.abc import Callable
from typing import Any

LIMIT_S = 30.0  # for what takes a second or two: a busy machine shall not fail a test


async def until(is_so: Callable[[], Any], *, limit_s: float = LIMIT_S, pause_s: float = 0.05) -> None:
    """Return when `is_so`, which may be a coroutine function, says so. TimeoutError past the limit."""
    async with asyncio.timeout(limit_s):
        while True:
            answer = is_so()
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer:
                return
            await asyncio.sleep(pause_s)
