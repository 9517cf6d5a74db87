"""An event loop in a thread of its own, for a client whose callers have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Final, ParamSpec, TypeAlias

from darkroom_client.effects import T

CLOSE_S: Final = 5.0  # the lookup of a name cannot be cancelled; the thread ends after it
P = ParamSpec("P")
_Running: TypeAlias = tuple[asyncio.AbstractEventLoop, asyncio.Event, threading.Thread]


class EventLoopThread:
    """Any number of threads may call. The thread begins with the first call, and does not keep the process alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def call(self, function: Callable[P, Coroutine[Any, Any, T]], /, *arguments: P.args, **options: P.kwargs) -> T:
        """Wait for what the function returns on the loop. An interrupt of the waiting thread cancels it."""
        loop = self._loop()
        future = asyncio.run_coroutine_threadsafe(function(*arguments, **options), loop)
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
            thread.join(CLOSE_S)

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

    def serve() -> None:
        try:
            asyncio.run(until_closed())
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)  # such as too many open files

    thread = threading.Thread(target=serve, name="darkroom websockets", daemon=True)
    thread.start()
    return *started.result(), thread
