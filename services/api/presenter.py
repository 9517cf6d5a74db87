"""An image as the clients of the api see it: in REST answers and in websocket frames."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from common.application.fleet.reader import Fleet
from common.application.fleet.validation import waiting_for
from common.application.fleet.view import FleetView
from common.domain.errors import Unavailable
from common.domain.images import Image, Status
from common.domain.views import ImagePresenter, ImageView, OfBatch, Outgoing, Time, is_none
from common.messages import AnyImageEvent
from common.runtime.clock import Clock
from common.store.port import Store
from services.api.auth.signing import Signing
from services.api.events.queue_positions import MAX_POSITION, queue_position
from services.api.events.recent_times import RecentTimes


class ImageAnswer(ImageView):
    """An image with what it waits for. No event carries these: they would soon be wrong."""

    queue_place: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_POSITION,
            description=f"1 is the next image of its pool, {MAX_POSITION} is any position beyond {MAX_POSITION - 1}; "
            "an estimate if `waitingSince` is not null; null if the image is not queued, waits for a retry, or waits "
            "for a generator",
        ),
    ]
    waiting_for: Annotated[
        str | None, Field(description="Why the image cannot be started, besides its position: a text for people")
    ]
    queue_place_estimated: Annotated[bool, Field(description="Whether `queuePlace` is an estimate")] = False
    estimated_seconds: Annotated[
        float | None,
        Field(
            ge=0,
            description="About how many seconds pass until the image starts; null if it has no `queuePlace`, or no "
            "image was painted in the last minutes",
        ),
    ] = None


class GenerationAnswer(ImageAnswer):
    """The first image of a request, with all of them if there are several."""

    images: Annotated[
        list[ImageAnswer] | None,
        Field(exclude_if=is_none, description="all images of the batch by their index; absent if there is no batch"),
    ] = None


class HistoryItem(Outgoing):
    id: str
    status: Status
    prompt: str
    image_url: str | None
    thumbnail_url: str | None
    model_used: str
    width: int
    height: int
    pinned: bool
    created_at: Time
    batch: OfBatch = None


@dataclass(frozen=True, slots=True)
class Presenter:
    """Makes what clients see of an image, with URLs that the owner's browser can load."""

    images: ImagePresenter
    signing: Signing
    store: Store
    clock: Clock
    times: RecentTimes
    slots: int
    fleet: Fleet

    def view(self, image: Image) -> ImageView:
        """The image as its owner sees it."""
        return self._signed(self.images.view(image))

    async def answer(self, image: Image) -> ImageAnswer:
        """The image as REST answers with it."""
        view = await self._fleet_view() if image.status is Status.QUEUED else None
        position = await queue_position(image, store=self.store, clock=self.clock, slots=self.slots, view=view)
        pool = view.pool_of(image.model) if view is not None and image.is_waiting else image.work_pool
        return ImageAnswer(
            **dict(self.view(image)),
            queue_place=position,
            queue_place_estimated=position is not None and image.is_waiting,
            estimated_seconds=None if position is None else self.times.seconds_until(position, view=view, pool=pool),
            waiting_for=None if view is None else waiting_for(image.model, view),
        )

    async def generation(self, images: Sequence[Image]) -> GenerationAnswer:
        """The images of one request as the answer to it."""
        answers = [await self.answer(image) for image in images]
        return GenerationAnswer(**dict(answers[0]), images=answers if images[0].batch else None)

    async def _fleet_view(self) -> FleetView | None:
        try:
            return await self.fleet.current()
        except Unavailable:  # no answer fails for that
            return None

    def history_item(self, image: Image) -> HistoryItem:
        """The image as one entry of the history."""
        view = self.view(image)
        return HistoryItem(**{name: getattr(view, name) for name in HistoryItem.model_fields})

    def event_data(self, event: AnyImageEvent) -> object:
        """The data of an event, as JSON values for a websocket frame."""
        data = self._signed(event.data) if isinstance(event.data, ImageView) else event.data
        return data.model_dump(mode="json", by_alias=True)

    def snapshot_frame(self, kind: Literal["hello", "gap"], cursor: str, images: Iterable[Image], *, more: int) -> str:
        """The first websocket frame: the unfinished images of the owner, and how many more there are."""
        shown = [self.view(image).model_dump(mode="json", by_alias=True) for image in images]
        return json.dumps({"type": kind, "cursor": cursor, "images": shown, "more": more}, ensure_ascii=False)

    def _signed(self, view: ImageView) -> ImageView:
        if view.image_url is None:
            return view
        thumbnail_url = self.signing.url(view.thumbnail_url) if view.thumbnail_url else None
        return view.model_copy(update={"image_url": self.signing.url(view.image_url), "thumbnail_url": thumbnail_url})
