"""The capabilities of one back end, read again when they are old."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from common.application.capabilities import Capabilities, bounded
from common.domain.errors import InferenceError
from common.runtime.clock import Clock

REFRESH_INTERVAL_S: Final = 60.0  # a new model is offered within a minute
RETRY_INTERVAL_S: Final = 5.0  # a server that does not answer is not asked by every job


class CapabilitiesCache:
    """Calls `ask` at most once a minute, or once in five seconds after an error; bounds what it returns."""

    def __init__(self, ask: Callable[[], Awaitable[Capabilities]], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = asyncio.Lock()
        self._ask_after = self._asked_s = float("-inf")
        self._latest: Capabilities | None = None
        self._error: InferenceError | None = None

    async def get(self, *, fresh: bool = False, max_age_s: float = REFRESH_INTERVAL_S) -> Capabilities:
        """The capabilities of the server; `fresh` asks it now. Raises the errors of `ask`."""
        async with self._lock:  # one request at a time; the other callers use its result
            now_s = self._clock.monotonic()
            if fresh or now_s >= self._ask_after or now_s >= self._asked_s + max_age_s:
                await self._refresh()
            if self._error is not None:
                raise self._error.with_traceback(None)
            assert self._latest is not None
            return self._latest

    async def known(self) -> Capabilities | None:
        """As `get`, but the last known ones while the server does not answer; None if it never did."""
        try:
            return await self.get()
        except InferenceError:
            return self._latest

    def expire(self) -> None:
        """Ask at the next call: the server has shown that it changed."""
        self._ask_after = float("-inf")

    async def _refresh(self) -> None:
        self._asked_s = self._clock.monotonic()
        self._ask_after = self._asked_s + RETRY_INTERVAL_S
        try:
            self._latest, self._error = bounded(await self._ask()), None
        except InferenceError as error:
            self._error = error
        else:
            self._ask_after = self._asked_s + REFRESH_INTERVAL_S
