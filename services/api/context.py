"""The parts of one api process; each group of routes takes from them what it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from common.application.batches import Batches
from common.application.fleet.reader import Fleet
from common.application.outbox import Outbox
from common.bus.port import Bus
from common.media.port import Media
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from common.store.port import Store
from services.api.auth.identity import Identity
from services.api.auth.signing import Signing
from services.api.auth.tickets import Tickets
from services.api.conversion import PictureConverter
from services.api.events.client import Clients
from services.api.events.live import LiveEvents
from services.api.events.model_changes import ModelChanges
from services.api.events.queue_positions import QueuePositions
from services.api.events.recent_outcomes import RecentOutcomes
from services.api.events.waits import Waits
from services.api.limits.admission import Admission
from services.api.presenter import Presenter


@dataclass(frozen=True, slots=True)
class Context:
    settings: Settings
    clock: Clock
    bus: Bus
    store: Store
    media: Media
    outbox: Outbox
    batches: Batches
    fleet: Fleet
    identity: Identity
    signing: Signing
    tickets: Tickets
    admission: Admission
    waits: Waits
    live: LiveEvents
    queue_positions: QueuePositions
    model_changes: ModelChanges
    clients: Clients
    outcomes: RecentOutcomes
    presenter: Presenter
    converter: PictureConverter


CONTEXT: Final = web.AppKey("context", Context)
