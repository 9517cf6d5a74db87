"""The routes of recorded images: history, read, delete, cancel, pin."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from aiohttp import web

from common.application.outbox import Outbox
from common.domain import images, transitions
from common.domain.errors import InvalidTransition, NotFound, ServiceError
from common.domain.images import Image, Status
from common.media.port import Media
from common.runtime.clock import Clock
from common.store.port import HistoryPosition, Store, Transition, change
from services.api.context import Context
from services.api.presenter import ImageAnswer, Presenter
from services.api.routes.operation import NO_INPUT, Call, Operation, PlainCall, RouteGroup, answer, body_of, query_of
from services.api.routes.schema import Cancelled, HistoryPage, HistoryQuery, ImagePatch

log = logging.getLogger(__name__)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STATUSES: Final = {
    "active": frozenset({Status.QUEUED, Status.RUNNING}),
    "all": frozenset(Status),
    **{status.value: frozenset({status}) for status in Status},
}


@dataclass(frozen=True, slots=True)
class ImageRoutes:
    clock: Clock
    store: Store
    media: Media
    outbox: Outbox
    presenter: Presenter

    @classmethod
    def of(cls, context: Context) -> ImageRoutes:
        return cls(context.clock, context.store, context.media, context.outbox, context.presenter)

    async def history(self, call: Call[HistoryQuery, None]) -> web.Response:
        """Lists the images of the owner, newest first, by page number or by cursor."""
        query, statuses = call.query, _STATUSES[call.query.status]
        after = _decode_cursor(query.cursor) if query.cursor else None
        offset = 0 if after else (query.page - 1) * query.per_page
        # one more than the page holds shows whether there is a next page
        found = await self.store.history(call.owner, statuses, limit=query.per_page + 1, offset=offset, after=after)
        page = found[: query.per_page]
        return answer(
            HistoryPage(
                images=[self.presenter.history_item(image) for image in page],
                total=await self.store.count_history(call.owner, statuses),
                page=query.page,
                per_page=query.per_page,
                next_cursor=encode_cursor(page[-1]) if len(found) > len(page) else None,
            )
        )

    async def get(self, call: PlainCall) -> web.Response:
        """Returns an image in any state."""
        image_id = images.parse_image_id(call.image_id)
        image = _require_owned(await self.store.get(image_id), call.owner, image_id)
        return answer(await self.presenter.answer(image))

    async def delete(self, call: PlainCall) -> web.Response:
        """Deletes an image with its file and thumbnail, and cancels it if it is unfinished."""
        image = await self._change(call, partial(transitions.delete, now=self.clock.now()))
        await self.outbox.try_publish_pending(image)
        try:
            await self.media.remove(images.media_keys(image))
            await change(self.store, image.id, partial(transitions.tombstone, now=self.clock.now()))
        except ServiceError as error:
            log.warning("files of image %s not removed, the janitor will remove them: %s", image.id, error)
        return web.Response(status=204)

    async def cancel(self, call: PlainCall) -> web.Response:
        """Cancels an image at once. The answer holds its previous status; 409 if the image was final already."""
        was = Status.QUEUED

        def transition(image: Image) -> Image:
            nonlocal was
            was = image.status
            return transitions.cancel(image, now=self.clock.now())

        image = await self._change(call, transition)
        await self.outbox.try_publish_pending(image)
        return answer(Cancelled(id=image.id, was=was))

    async def pin(self, call: Call[None, ImagePatch]) -> web.Response:
        """Pins an image, which exempts it from the purge, or unpins it."""
        image = await self._change(call, partial(transitions.pin, pinned=call.body.pinned))
        return answer(await self.presenter.answer(image))

    async def _change(self, call: PlainCall | Call[None, ImagePatch], transition: Transition) -> Image:
        """Apply a transition that first checks the owner, on the record that is changed."""
        image_id = images.parse_image_id(call.image_id)

        def owned_transition(image: Image) -> Image:
            return transition(_require_owned(image, call.owner, image_id))

        try:
            return await change(self.store, image_id, owned_transition)
        except InvalidTransition as invalid:
            raise InvalidTransition(
                f"image {image_id} is already {invalid.status}", status=invalid.status, code="already_final"
            ) from invalid


# `history` is excluded: else the `Allow` of its 405 would list the methods of an image
_ID: Final = "{id:(?!history)[^/]+}"
_READ: Final = (400, 401, 404, 413, 503)
_CHANGE: Final = (403, *_READ)
OPERATIONS: Final = (
    Operation(
        "images_history",
        "GET",
        "/api/images/history/",
        query_of(HistoryQuery),
        ImageRoutes.history,
        "List images, newest first",
        answers={200: HistoryPage},
        problems=(400, 401, 406, 413, 503),
    ),
    Operation(
        "images_get",
        "GET",
        f"/api/images/{_ID}/",
        NO_INPUT,
        ImageRoutes.get,
        "Get an image",
        answers={200: ImageAnswer},
        problems=(406, *_READ),
    ),
    Operation(
        "images_delete",
        "DELETE",
        f"/api/images/{_ID}/",
        NO_INPUT,
        ImageRoutes.delete,
        "Delete an image",
        answers={204: None},
        problems=_CHANGE,
    ),
    Operation(
        "images_cancel",
        "POST",
        f"/api/images/{_ID}/cancel/",
        NO_INPUT,
        ImageRoutes.cancel,
        "Cancel an image",
        answers={200: Cancelled},
        problems=(406, 409, *_CHANGE),
    ),
    Operation(
        "images_pin",
        "PATCH",
        f"/api/images/{_ID}/",
        body_of(ImagePatch),
        ImageRoutes.pin,
        "Pin or unpin an image",
        answers={200: ImageAnswer},
        problems=(406, 408, 415, *_CHANGE),
    ),
)
GROUP: Final = RouteGroup(ImageRoutes.of, OPERATIONS)


def _require_owned(image: Image | None, owner: str, image_id: str) -> Image:
    """The image, if it belongs to this owner and is not deleted; all other cases give the same error."""
    if image is None or image.owner != owner or image.deleted_at is not None:
        raise NotFound(f"there is no image {image_id}", code="image_not_found")
    return image


def encode_cursor(image: Image) -> str:
    """The position of an image in the history."""
    milliseconds = (image.created_at - _EPOCH) // timedelta(milliseconds=1)
    return f"{milliseconds:013d}.{image.id}"


def _decode_cursor(cursor: str) -> HistoryPosition:
    """The query's model has checked the form."""
    milliseconds, _, image_id = cursor.partition(".")
    return HistoryPosition(_EPOCH + timedelta(milliseconds=int(milliseconds)), image_id)
