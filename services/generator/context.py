"""The studio: all that painting needs, with a store that may be away for a while."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from common.application.outbox import Outbox
from common.domain.errors import Unavailable
from common.domain.images import Image, Lease
from common.media.port import Media
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from common.store.port import Store, Transition, change
from services.generator.circuit import Circuit
from services.generator.inference.native import InferenceClient

log = logging.getLogger(__name__)

T = TypeVar("T")
STORE_PAUSE_S = 1.0  # between two tries while the store is away; the delivery is kept meanwhile


@dataclass(slots=True)
class GenerationContext:
    """All that painting needs; one for each process."""

    store: Store
    outbox: Outbox
    media: Media
    inference: InferenceClient
    circuit: Circuit
    settings: Settings
    clock: Clock
    token: str
    worker: str
    at_work: dict[str, asyncio.Event] = field(default_factory=dict)

    def stop_work(self, image_id: str) -> None:
        """Heard that this image is cancelled or deleted: drop it, if it is here."""
        if stopped := self.at_work.get(image_id):
            stopped.set()

    def lease(self) -> Lease:
        length_s = self.settings.lease
        until = self.clock.stable_now() + timedelta(seconds=length_s)
        return Lease(token=self.token, worker=self.worker, until=until, length_s=length_s)

    async def transition(self, image_id: str, transition: Transition, *, snapshot: Image | None = None) -> Image:
        """Apply a move, however long the store is away."""
        return await persist(lambda: change(self.store, image_id, transition, snapshot=snapshot))


async def persist(write: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await write()
        except Unavailable as error:
            log.warning("waiting for the store: %s", error)
            await asyncio.sleep(STORE_PAUSE_S)
