"""What is left to do for painted pictures while their slots paint the next ones.

painted ──▶ the slot is free, the message acknowledged ──▶ checked and stored, a few at once
        └─▶ as many pictures as there are slots are being stored: its slot stays taken until this one is
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from common.bus.handling import acknowledge_early
from services.generator.backends.backends import Backends

T = TypeVar("T")

AT_ONCE: Final = 8  # each is CPU of one core for a while, and otherwise waits for the disk


@dataclass(slots=True)
class HeldSlot:
    """The slot of an image with the message in hand; both last until the picture is painted."""

    _stack: AsyncExitStack
    is_free: bool = False

    async def free(self) -> None:
        self.is_free = True
        await self._stack.aclose()
        await acknowledge_early()


@asynccontextmanager
async def held(place: AbstractAsyncContextManager[T]) -> AsyncIterator[tuple[HeldSlot, T]]:
    """A place at the back ends that may be left before the end of the body."""
    async with AsyncExitStack() as stack:
        yield HeldSlot(stack), await stack.enter_async_context(place)


class Finishing:
    """One for each process. It limits the pictures in memory: those painted and those stored are twice the slots.

    If many pictures end at once, claims of the next images come before what is left to do for these: until a claim, a
    slot has nothing to do. One picture is finished beside them in any case.
    """

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._pictures = 0
        self._active = 0  # of the pictures: being checked or stored
        self._starts = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @contextmanager
    def start(self) -> Iterator[None]:
        """A step of an image on its way to a slot."""
        self._starts += 1
        try:
            yield
        finally:
            self._starts -= 1
            self._admit()

    @asynccontextmanager
    async def picture(self, slot: HeldSlot) -> AsyncIterator[None]:
        """Free the slot of a picture, unless too many others are being stored; the body stores it.

        The message is acknowledged, as it would not help if this process died: until the lease ends, no worker takes
        the image, and then the janitor sends a command.
        """
        self._pictures += 1
        try:
            if self._pictures <= self._backends.slots:
                await slot.free()
            await self._turn()
            try:
                yield
            finally:
                self._active -= 1
                self._admit()
        finally:
            self._pictures -= 1

    async def _turn(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._active -= 1
                self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and (not self._active or (not self._starts and self._active < AT_ONCE)):
            turn = self._waiting.popleft()
            if not turn.done():  # or it was cancelled
                self._active += 1
                turn.set_result(None)
