"""The resources of a service, opened by the wiring and passed on as one object."""

from __future__ import annotations

from dataclasses import dataclass

from common.application.events import EventFactory
from common.application.fleet.reader import Fleet
from common.application.outbox import Outbox
from common.application.write_behind import WriteBehind
from common.bus.port import Bus
from common.domain.views import ImagePresenter
from common.media.port import Media
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from common.store.port import Store


@dataclass(frozen=True, slots=True)
class Resources:
    """The open ports; the code that opened them closes them."""

    bus: Bus
    store: Store
    media: Media
    clock: Clock

    def events(self, settings: Settings, *, source: str) -> EventFactory:
        """The factory for events of the service with this name."""
        return EventFactory(source, self.clock, ImagePresenter(settings.media_prefix, settings.retention))

    def fleet(self, settings: Settings) -> Fleet:
        """The reader of what the generators announce; one for each service."""
        return Fleet(self.store, self.clock, interval_s=settings.announce_interval)

    def outbox(
        self, settings: Settings, *, source: str, fleet: Fleet, write_behind: WriteBehind | None = None
    ) -> Outbox:
        """The outbox of the service with this name; without `write_behind`, confirmations are written at once."""
        return Outbox(
            self.bus,
            self.store,
            self.clock,
            self.events(settings, source=source),
            write_behind,
            settings.concurrent_requests,
            fleet,
        )
