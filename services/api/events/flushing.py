"""The order in which websockets get their frames.

    event ──▶ queues of 5,000 websockets ──▶ FlushQueue ──some in each pass of the event loop──▶ their sockets

A websocket that waits in it collects frames, and they leave in one write. So the more there is to send, the
less a frame costs, and no pass of the event loop takes longer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

PER_PASS: Final = 100  # websockets; a write to one takes some 10 µs


class FlushQueue:
    """Calls each function once, in the order in which they were added."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, flush: Callable[[], None]) -> None:
        """Call it soon, after those that were added before it."""
        self._waiting.append(flush)
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        loop, self._loop = self._loop, None
        assert loop is not None
        waiting = self._waiting
        try:
            for _ in range(min(PER_PASS, len(waiting))):
                waiting.popleft()()
        finally:  # one that fails must not hold up the others
            if waiting:
                self._loop = loop
                loop.call_soon(self._run)
