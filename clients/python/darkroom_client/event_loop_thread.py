"""An event loop in a thread of its own, for a client whose callers have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeAlias

from darkroom_client.effects import T

_Running: TypeAlias = tuple[asyncio.AbstractEventLoop, asyncio.Event, threading.Thread]


class EventLoopThread:
    """Any number of threads may call. The thread begins with the first call, and does not keep the process alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for the result of the coroutine. An interrupt of the waiting thread cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop())
        try:
            return future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """End the thread; calls that still wait are cancelled."""
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            loop, closing, thread = running
            loop.call_soon_threadsafe(closing.set)
            thread.join()

    @property
    def is_running(self) -> bool:
        return self._running is not None

    def _loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._running is None:
                self._running = _start()
            return self._running[0]


def _start() -> _Running:
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def until_closed() -> None:
        closing = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), closing))
        await closing.wait()

    thread = threading.Thread(target=lambda: asyncio.run(until_closed()), name="darkroom websockets", daemon=True)
    thread.start()
    return *started.result(), thread
