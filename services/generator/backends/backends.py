"""The slots of the back ends, given to the images that ask for one.

image ──place──▶ a slot of a back end that can take it ──▶ painted ──▶ the slot is free: the next that waits gets it
             ├─▶ ABSENT    none can take it now
             ├─▶ BUSY      another generator may be faster, or all the places here are taken by images that wait
             └─▶ STOPPING
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from services.generator.backends.backend import Backend
from services.generator.backends.choice import Needs, able, chosen, places

FIRST_ANSWER_S: Final = 5.0  # an image at the start waits so long for the back ends to say what they can paint
# An idle back end lets the images that wait for others keep all the places for so long. Each second one of them goes
# back to the queue, and the next image there may be one for it.
HOLD_S: Final = 1.0


class NoPlace(Enum):
    """Why an image has got no slot."""

    ABSENT = "no back end can take it now"
    BUSY = "it goes back to the queue for a moment"
    STOPPING = "the generator stops"


@dataclass(slots=True, eq=False)
class WaitingImage:
    """An image that waits here, and what it gets."""

    needs: Needs
    result: asyncio.Future[Backend | NoPlace] = field(default_factory=asyncio.Future)


class Backends:
    """Gives each image a slot of a back end; `changed` is set when a back end may take other images than before."""

    def __init__(self, backends: Sequence[Backend], *, hold_s: float = HOLD_S) -> None:
        self.all = tuple(backends)
        self.changed = asyncio.Event()
        self._hold_s = hold_s
        self._waiting: list[WaitingImage] = []  # in the order of their arrival; at most as many as there are places
        self._is_closing = False
        for backend in backends:
            backend.on_change = self.update

    @property
    def are_all_open(self) -> bool:
        return all(backend.is_open for backend in self.all)

    @property
    def places(self) -> int:
        """How many images the generator may take from the queue at once; 0 if all circuits are open."""
        return places(self.all)

    @property
    def slots(self) -> int:
        """How many images are painted at once at most; without a closed circuit, as if all were closed."""
        closed = [backend for backend in self.all if not backend.is_open]
        return sum(backend.concurrency for backend in closed or self.all)

    def back_in_s(self, model: str) -> float:
        """After how long a back end with this model may be asked again; 0 if none is down that has it."""
        pauses = (each.circuit.pause_s for each in self.all if each.is_open and each.find(model) is not None)
        return min(pauses, default=0.0)

    def named(self, name: str | None) -> Backend | None:
        return next((backend for backend in self.all if backend.name == name), None)

    @asynccontextmanager
    async def place(self, needs: Needs) -> AsyncIterator[Backend | NoPlace]:
        """A slot of a back end that can take this image, held in the context; waits while all of those are busy."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_ANSWER_S):
                for backend in self.all:
                    await backend.is_asked.wait()
        found = await self._reserve(needs)
        try:
            yield found
        finally:
            if isinstance(found, Backend):
                self._release(found)

    def update(self) -> None:
        """The models of a back end have changed."""
        self.assign()
        self.changed.set()

    def close(self) -> None:
        """Give no slot from now on; those that are held stay."""
        self._is_closing = True
        self.assign()

    async def _reserve(self, needs: Needs) -> Backend | NoPlace:
        waiter = WaitingImage(needs)
        self._waiting.append(waiter)
        self.assign()
        try:
            while True:
                await asyncio.wait([waiter.result], timeout=self._hold_s)
                if waiter.result.done():
                    return waiter.result.result()
                if self._holds_up_others(waiter):
                    self._resolve(waiter, NoPlace.BUSY)
        except BaseException:
            # cancelled: a slot that was given at the same moment is free again
            if not waiter.result.done():
                self._resolve(waiter, NoPlace.STOPPING)
            elif isinstance(found := waiter.result.result(), Backend):
                self._release(found)
            raise

    def _holds_up_others(self, waiter: WaitingImage) -> bool:
        """Whether this is the last of the images that take all places while a back end has nothing to do."""
        taken = len(self._waiting) + sum(backend.jobs for backend in self.all)
        is_idle = any(backend.jobs < backend.concurrency and not backend.is_open for backend in self.all)
        return is_idle and taken >= self.places and self._waiting[-1] is waiter

    def assign(self) -> None:
        """Give the free slots to those that wait, and tell those that nobody can take."""
        for waiter in list(self._waiting):
            result = self._found(waiter.needs)
            if isinstance(result, Backend):
                result.jobs += 1
            if result is not None:
                self._resolve(waiter, result)

    def _found(self, needs: Needs) -> Backend | NoPlace | None:
        """None: the image waits for a slot."""
        if self._is_closing:
            return NoPlace.STOPPING
        if self.are_all_open:
            return NoPlace.BUSY  # the generator takes no work from now on; others may
        candidates = able(needs, self.all)
        return chosen(candidates, needs) if candidates else NoPlace.ABSENT

    def _resolve(self, waiter: WaitingImage, result: Backend | NoPlace) -> None:
        self._waiting.remove(waiter)
        waiter.result.set_result(result)

    def _release(self, backend: Backend) -> None:
        backend.jobs -= 1
        self.assign()
