"""The context of the generator: the ports and settings that handling a command needs."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from common.application.batches import Batches
from common.application.fleet.reader import Fleet
from common.application.intake import Intake
from common.application.outbox import Outbox
from common.application.turns import LaterTurns
from common.domain.errors import Unavailable, Unreadable
from common.domain.images import Image, Lease
from common.media.port import Media
from common.provenance.marks import Marker
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from common.store.port import Store, Transition, change
from services.generator.backends.backend import Backend
from services.generator.backends.backends import Backends
from services.generator.backends.finishing import Finishing
from services.generator.inference.job import Job, job_of
from services.generator.media_pause import MediaPause

log = logging.getLogger(__name__)

T = TypeVar("T")
STORE_PAUSE_S = 1.0  # between two tries while the store is unavailable; the delivery stays unacknowledged meanwhile


class LeaseLost(Exception):
    """This worker no longer holds the image: it was cancelled or deleted, or another worker took it over.

    `is_ended`: nobody needs the picture, so the work of the inference service can be stopped. Otherwise the work may be
    another worker's by now.
    """

    def __init__(self, detail: str, *, is_ended: bool = False) -> None:
        super().__init__(detail)
        self.is_ended = is_ended


@dataclass(slots=True)
class GenerationContext:
    """One for each process; `worker` names it to people."""

    store: Store
    fleet: Fleet
    intake: Intake
    outbox: Outbox
    media: Media
    backends: Backends
    settings: Settings
    clock: Clock
    worker: str
    deployment: str
    marker: Marker
    media_pause: MediaPause = field(init=False)
    later_turns: LaterTurns = field(init=False)
    finishing: Finishing = field(init=False)
    abort_signals: dict[str, asyncio.Event] = field(default_factory=dict)  # of the images that this process paints

    def __post_init__(self) -> None:
        self.media_pause = MediaPause(self.media, pause_s=self.settings.circuit_pause)
        self.later_turns = LaterTurns(self.outbox.try_dispatch_waiting, self.clock)
        self.finishing = Finishing(self.backends)

    @property
    def batches(self) -> Batches:
        return Batches(self.store, self.outbox, self.intake.record_other)

    def abort(self, image_id: str) -> None:
        """Stop painting this image, if this process paints it: it was cancelled or deleted."""
        if signal := self.abort_signals.get(image_id):
            signal.set()

    def job_of(self, image: Image) -> Job:
        return job_of(image, deployment=self.deployment)

    def backend_of(self, image: Image) -> Backend:
        """The back end that paints this claimed image."""
        backend = self.backends.named(image.last_backend)
        if backend is None:
            raise LeaseLost(f"image {image.id} is at no back end of this worker")
        return backend

    async def stop_work(self, image: Image) -> None:
        """Stop the work of this image at its back end. Raises nothing: the image is final already."""
        try:
            await self.backend_of(image).inference.stop(self.job_of(image))
        except Exception:
            log.exception("the work was not stopped on the inference service")

    def new_lease(self, backend: str | None) -> Lease:
        """The lease of a new claim, from now on; its token is that of no other claim, also within this process."""
        return self._lease(secrets.token_hex(8), backend)

    def lease_of(self, image: Image) -> Lease:
        """The lease of this claimed image, extended from now on."""
        if image.lease is None:
            raise LeaseLost(f"image {image.id} has no lease")
        return self._lease(image.lease.token, image.lease.backend)

    def _lease(self, token: str, backend: str | None) -> Lease:
        length_s = self.settings.lease
        until = self.clock.stable_now() + timedelta(seconds=length_s)
        return Lease(token=token, worker=self.worker, until=until, length_s=length_s, backend=backend)

    async def transition(self, image_id: str, transition: Transition, *, snapshot: Image | None = None) -> Image:
        """Apply a transition to the record; waits for the store as long as it is unavailable."""
        return await retry_while_unavailable(lambda: change(self.store, image_id, transition, snapshot=snapshot))


async def retry_while_unavailable(operation: Callable[[], Awaitable[T]]) -> T:
    """Repeat an operation on the store until the store has answered; the operation must be repeatable.

    Raises:
        Unreadable: the record is damaged or of a newer version, which waiting does not change.
    """
    while True:
        try:
            return await operation()
        except Unreadable:
            raise
        except Unavailable as error:
            log.warning("waiting for the store: %s", error)
            await asyncio.sleep(STORE_PAUSE_S)
