"""What a service stands on: opened by the wiring, and handed to each service as one thing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from common.application.outbox import Outbox
from common.application.write_behind import WriteBehind
from common.bus.port import Bus
from common.media.port import Media
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from common.store.port import Store


@dataclass(frozen=True, slots=True)
class Resources:
    """All of it open; who opened it closes it."""

    bus: Bus
    store: Store
    media: Media
    clock: Clock

    def outbox(self, settings: Settings, *, source: str, write_behind: WriteBehind | None = None) -> Outbox:
        """By which the service of this name speaks of images; without `write_behind` it writes each of them at once."""
        return Outbox(
            bus=self.bus,
            store=self.store,
            clock=self.clock,
            source=source,
            media_url=settings.media_prefix,
            retention=timedelta(days=settings.retention_days),
            write_behind=write_behind,
        )
