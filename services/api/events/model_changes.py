"""Hints for websockets: the list of models has changed; these queued images wait for a generator.

    fleet ──view──▶ ModelChanges ──{"type": "models"}─────────────────────────────▶ all websockets
                     ▲         └───{"type": "waiting", "waitingFor": {"<id>": …}}──▶ those of one owner
    hello, events ───┘ the queued images

As with queue positions, these frames are hints and not events of the bus: they have no cursor.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from common.application.fleet.reader import Fleet
from common.application.fleet.validation import waiting_for
from common.application.fleet.view import CatalogueUnion, FleetView
from common.domain.errors import Unavailable
from common.domain.images import Image, Status
from common.domain.views import ImageView
from common.messages import ImageChanged
from services.api.events.live import ClientEvent, LiveEvents

log = logging.getLogger(__name__)

MAX_IMAGES: Final = 1000  # of one owner; limits keep it far below
MODELS_FRAME: Final = json.dumps({"type": "models"})
SendHint = Callable[[str, str], None]  # the kind of a frame, and the frame


@dataclass(slots=True)
class _OwnerImages:
    """The queued images of one owner with their models, and what each of its websockets was sent last."""

    sent: dict[SendHint, dict[str, str]] = field(default_factory=dict)
    queued: dict[str, str] = field(default_factory=dict)

    def add(self, image_id: str, model: str) -> None:
        if len(self.queued) < MAX_IMAGES:
            self.queued[image_id] = model

    def update(self, view: FleetView) -> None:
        # by model: a thousand images have few of them, and this runs for each that is queued or ends
        reasons = {model: waiting_for(model, view) for model in set(self.queued.values())}
        found: dict[str, str] = {}
        if any(reasons.values()):
            found = {image_id: reason for image_id, model in self.queued.items() if (reason := reasons[model])}
        for send, sent in self.sent.items():
            if sent != found:
                self.sent[send] = found
                send("waiting", json.dumps({"type": "waiting", "waitingFor": found}))


class ModelChanges:
    """Tells the websockets of one api process about models; `run` is the task that looks for changes."""

    def __init__(self, fleet: Fleet, live: LiveEvents) -> None:
        self._fleet = fleet
        self._live = live
        self._owners: dict[str, _OwnerImages] = {}
        self._union: CatalogueUnion | None = None
        self._view: FleetView | None = None
        self._due: set[str] = set()  # owners whose images have changed
        self._changed = asyncio.Event()

    @contextmanager
    def subscribed(self, owner: str, send: SendHint) -> Iterator[None]:
        """Tell a websocket of this owner from now on."""
        images = self._owners.setdefault(owner, _OwnerImages())
        images.sent[send] = {}
        try:
            yield
        finally:
            del images.sent[send]
            if not images.sent:
                self._owners.pop(owner, None)

    def add_queued(self, owner: str, images: Iterable[Image]) -> None:
        """Take up the queued images of a websocket's first frame."""
        if known := self._owners.get(owner):
            for image in images:
                if image.status is Status.QUEUED:
                    known.add(image.id, image.model)
            self._note(owner)

    async def run(self) -> None:
        """Look as often as the fleet is read, and when an image is queued; never returns."""
        async with self._live.subscribed(None, self._on_event):
            while True:
                self._changed.clear()
                try:
                    self._update(await self._fleet.current())
                except Unavailable as error:
                    log.debug("models unknown: %s", error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._fleet.max_age_s):
                        await self._changed.wait()

    def _on_event(self, client_event: ClientEvent) -> None:
        event = client_event.event
        images = self._owners.get(event.owner)
        if images is None:
            return
        if isinstance(event, ImageChanged) and event.type == "image.queued" and isinstance(event.data, ImageView):
            images.add(event.subject, event.data.model_used)
            self._note(event.owner)
        elif images.queued.pop(event.subject, None):
            self._note(event.owner)

    def _note(self, owner: str) -> None:
        self._due.add(owner)
        self._changed.set()

    def _update(self, view: FleetView) -> None:
        """Tell the owners whose images have changed; all of them after a change of the fleet."""
        due, self._due = self._due, set()
        if view is not self._view:
            due = set(self._owners)
            self._tell_of_models(view.catalogue())
        self._view = view
        for owner in due:
            if images := self._owners.get(owner):
                images.update(view)

    def _tell_of_models(self, union: CatalogueUnion) -> None:
        has_changed = self._union is not None and union != self._union
        self._union = union
        if has_changed:
            for images in self._owners.values():
                for send in images.sent:
                    send("models", MODELS_FRAME)
