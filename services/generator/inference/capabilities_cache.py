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
    """Calls `ask` at most once a minute while it succeeds; bounds what it returns."""

    def __init__(self, ask: Callable[[], Awaitable[Capabilities]], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = asyncio.Lock()
        self._asked_s = float("-inf")
        self._latest: Capabilities | None = None
        self._is_current = False  # `ask` succeeded the last time

    async def get(self, *, fresh: bool = False, max_age_s: float = REFRESH_INTERVAL_S) -> Capabilities:
        """The capabilities of the server; `fresh` asks it now. Raises the errors of `ask`."""
        async with self._lock:  # one request at a time; the other callers use its result
            if fresh or not self._is_current or self._age_s() >= max_age_s or self._latest is None:
                self._is_current, self._asked_s = False, self._clock.monotonic()
                self._latest = bounded(await self._ask())
                self._is_current = True
            return self._latest

    async def get_known(self) -> Capabilities:
        """As `get`, but the last known ones while the server does not answer. Raises if it never did."""
        if self._latest is not None and not self._is_current and self._age_s() < RETRY_INTERVAL_S:
            return self._latest
        try:
            return await self.get()
        except InferenceError:
            if self._latest is None:
                raise
            return self._latest

    async def known(self) -> Capabilities | None:
        """As `get_known`; None if the server never answered."""
        try:
            return await self.get_known()
        except InferenceError:
            return None

    def expire(self) -> None:
        """Ask at the next call: the server has shown that it changed."""
        self._asked_s = float("-inf")

    def _age_s(self) -> float:
        return self._clock.monotonic() - self._asked_s
