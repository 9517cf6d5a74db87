"""The routes of one recorded image: read, delete, cancel, pin, the log of its webhook."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from aiohttp import web

from common.application.batches import Batches
from common.application.outbox import Outbox
from common.application.webhooks.deliveries import Deliveries
from common.domain import images, transitions
from common.domain.errors import InvalidTransition, NotFound, ServiceError
from common.domain.images import Image, Status
from common.media.port import Media
from common.runtime.clock import Clock
from common.store.port import Store, Transition, change
from services.api.context import Context
from services.api.presenter import ImageAnswer, Presenter
from services.api.routes.operation import NO_INPUT, Call, Operation, PlainCall, RouteGroup, answer, body_of, query_of
from services.api.routes.schema import (
    BatchQuery,
    Cancelled,
    CancelledAnswer,
    DeliveriesAnswer,
    DeliveryAnswer,
    ImagePatch,
)

log = logging.getLogger(__name__)

BatchCall: TypeAlias = Call[BatchQuery, None]


@dataclass(frozen=True, slots=True)
class ImageRoutes:
    clock: Clock
    store: Store
    media: Media
    outbox: Outbox
    batches: Batches
    presenter: Presenter

    @classmethod
    def of(cls, context: Context) -> ImageRoutes:
        return cls(context.clock, context.store, context.media, context.outbox, context.batches, context.presenter)

    async def get(self, call: PlainCall) -> web.Response:
        """Returns an image in any state."""
        image_id = images.parse_image_id(call.image_id)
        image = require_owned(await self.store.get(image_id), call.owner, image_id)
        return answer(await self.presenter.answer(image))

    async def delete(self, call: BatchCall) -> web.Response:
        """Deletes an image with its file and thumbnail, and cancels it if it is unfinished."""
        transition = partial(transitions.delete, now=self.clock.now())
        deleted = (
            await self._change_all(call, transition) if call.query.batch else [await self._change(call, transition)]
        )
        for image in deleted:
            await self.outbox.try_publish_pending(image)
        for image in deleted:
            await self._remove_files(image)
        return web.Response(status=204)

    async def _remove_files(self, image: Image) -> None:
        try:
            await self.media.remove(images.media_keys(image))
            await self.batches.complete(image)  # the others are made from its record, and a tombstone has no prompt
            await change(self.store, image.id, partial(transitions.tombstone, now=self.clock.now()))
        except ServiceError as error:
            log.warning("files of image %s not removed, the janitor will remove them: %s", image.id, error)

    async def cancel(self, call: BatchCall) -> web.Response:
        """Cancels an image at once. The answer holds its previous status; 409 if the image was final already."""
        was: dict[str, Status] = {}

        def transition(image: Image) -> Image:
            was[image.id] = image.status
            return transitions.cancel(image, now=self.clock.now())

        if not call.query.batch:
            image = await self._change(call, transition)
            await self.outbox.try_publish_pending(image)
            return answer(CancelledAnswer(id=image.id, was=was[image.id]))
        found = await self._change_all(call, transition)
        for image in found:
            await self.outbox.try_publish_pending(image)
        cancelled = [Cancelled(id=image.id, was=was[image.id]) for image in sorted(found, key=_index)]
        return answer(CancelledAnswer(**dict(cancelled[0]), images=cancelled))

    async def pin(self, call: Call[None, ImagePatch]) -> web.Response:
        """Pins an image, which exempts it from the purge, or unpins it."""
        image = await self._change(call, partial(transitions.pin, pinned=call.body.pinned))
        return answer(await self.presenter.answer(image))

    async def deliveries(self, call: BatchCall) -> web.Response:
        """Lists what was and is to be delivered to the webhook of an image, with each try, for seven days."""
        image_id = images.parse_image_id(call.image_id)
        if call.query.batch:
            _, shown = await self._batch(call.owner, image_id)
        else:
            shown = [require_owned(await self.store.get(image_id), call.owner, image_id)]
        log = Deliveries(self.store, self.clock)
        found = [delivery for image in shown if image.webhook for delivery in await log.readable_of_image(image.id)]
        mine = [DeliveryAnswer.of(delivery) for delivery in found if delivery.owner == call.owner]
        return answer(DeliveriesAnswer(deliveries=mine))

    async def _batch(self, owner: str, image_id: str) -> tuple[Image, list[Image]]:
        """An image, which may be deleted itself, and the images of its batch that are not.

        Raises:
            NotFound: the owner has no such image, or all of its batch are deleted.
        """
        image = await self.store.get(image_id)
        if image is None or image.owner != owner:
            raise _no_image(image_id)
        shown = [member for member in await self.batches.members(image) if member.deleted_at is None]
        if not shown:
            raise _no_image(image_id)
        return image, shown

    async def _change_all(self, call: BatchCall, transition: Transition) -> list[Image]:
        """Apply a transition to the batch of the image in the path, which may be deleted itself; returns the changed.

        Raises:
            NotFound: the owner has no such image, or all of its batch are deleted.
            InvalidTransition: nothing was left to change.
        """
        image_id = images.parse_image_id(call.image_id)
        image, shown = await self._batch(call.owner, image_id)
        changed = await self.batches.change(image, transition)
        if not changed:
            raise _already_final(image_id, shown[0].status)
        return changed

    async def _change(self, call: BatchCall | Call[None, ImagePatch], transition: Transition) -> Image:
        """Apply a transition that first checks the owner, on the record that is changed."""
        image_id = images.parse_image_id(call.image_id)

        def owned_transition(image: Image) -> Image:
            return transition(require_owned(image, call.owner, image_id))

        try:
            return await change(self.store, image_id, owned_transition)
        except InvalidTransition as invalid:
            raise _already_final(image_id, invalid.status) from invalid


# `history` is excluded: else the `Allow` of its 405 would list the methods of an image
_ID: Final = "{id:(?!history)[^/]+}"
_READ: Final = (400, 401, 404, 413, 503)
_CHANGE: Final = (403, *_READ)
OPERATIONS: Final = (
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
        query_of(BatchQuery),
        ImageRoutes.delete,
        "Delete an image, or its batch",
        answers={204: None},
        problems=_CHANGE,
    ),
    Operation(
        "images_cancel",
        "POST",
        f"/api/images/{_ID}/cancel/",
        query_of(BatchQuery),
        ImageRoutes.cancel,
        "Cancel an image, or its batch",
        answers={200: CancelledAnswer},
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
    Operation(
        "images_deliveries",
        "GET",
        f"/api/images/{_ID}/deliveries/",
        query_of(BatchQuery),
        ImageRoutes.deliveries,
        "Get the delivery log of an image, or of its batch",
        answers={200: DeliveriesAnswer},
        problems=(406, *_READ),
        notes="docs/webhooks.md explains the states. Nothing is listed for an image without a webhook.",
    ),
)
GROUP: Final = RouteGroup(ImageRoutes.of, OPERATIONS)


def require_owned(image: Image | None, owner: str, image_id: str) -> Image:
    """The image, if it belongs to this owner and is not deleted; all other cases give the same error."""
    if image is None or image.owner != owner or image.deleted_at is not None:
        raise _no_image(image_id)
    return image


def _no_image(image_id: str) -> NotFound:
    return NotFound(f"there is no image {image_id}", code="image_not_found")


def _already_final(image_id: str, status: str) -> InvalidTransition:
    return InvalidTransition(f"image {image_id} is already {status}", status=status, code="already_final")


def _index(image: Image) -> int:
    return image.batch.index if image.batch is not None else 0
