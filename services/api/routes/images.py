"""The routes on images that are on record: history, one image, delete, cancel, pin."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from aiohttp import web

from common.domain import images, transitions
from common.domain.errors import InvalidTransition, NotFound, ServiceError
from common.domain.images import Image, Status
from common.store.port import HistoryPosition, Transition, change
from services.api.context import Call, Operation, answer
from services.api.routes.schema import Cancelled, Change, HistoryItem, HistoryPage, HistoryQuery, ImageAnswer

log = logging.getLogger(__name__)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STATES: Final = {
    "active": frozenset({Status.QUEUED, Status.RUNNING}),
    "all": frozenset(Status),
    **{status.value: frozenset({status}) for status in Status},
}


async def history(call: Call) -> web.Response:
    """The owner's images, newest first, by page or by cursor."""
    query: HistoryQuery = call.query
    store, statuses = call.context.store, _STATES[query.status]
    after = _position(query.cursor) if query.cursor else None
    offset = 0 if after else (query.page - 1) * query.per_page
    # one more than is shown tells whether there is a next page
    found = await store.history(call.owner, statuses, limit=query.per_page + 1, offset=offset, after=after)
    shown = found[: query.per_page]
    return answer(
        HistoryPage(
            images=[_item(call, image) for image in shown],
            total=await store.count_history(call.owner, statuses),
            page=query.page,
            per_page=query.per_page,
            next_cursor=_cursor(shown[-1]) if len(found) > len(shown) else None,
        )
    )


async def get(call: Call) -> web.Response:
    """One image, in any state."""
    return answer(await call.context.whole(await owned(call, call.image_id)))


async def delete(call: Call) -> web.Response:
    """Cancel if need be; remove file, thumbnail and record. What this process leaves, the janitor finishes."""
    image = await _changed(call, partial(transitions.delete, now=call.context.clock.now()))
    await call.context.outbox.try_publish_pending(image)
    try:
        await call.context.media.remove(images.media_keys(image))
        await change(call.context.store, image.id, partial(transitions.tombstone, now=call.context.clock.now()))
    except ServiceError as error:
        log.warning("files of %s are left to the janitor: %s", image.id, error)
    return web.Response(status=204)


async def cancel(call: Call) -> web.Response:
    """Final at once; says what the image was. 409 where it is final already."""
    was = Status.QUEUED

    def transition(image: Image) -> Image:
        nonlocal was
        was = image.status
        return transitions.cancel(image, now=call.context.clock.now())

    image = await _changed(call, transition)
    await call.context.outbox.try_publish_pending(image)
    return answer(Cancelled(id=image.id, was=was))


async def pin(call: Call) -> web.Response:
    """Exempt an image from the purge, or no longer."""
    body: Change = call.body
    return answer(await call.context.whole(await _changed(call, partial(transitions.pin, pinned=body.pinned))))


# whatever an id is, `history` is none: its `Allow` would name methods that it does not have
_ID: Final = "{id:(?!history)[^/]+}"
_OWN: Final = (400, 401, 404, 413, 503)
_CHANGES: Final = (403, *_OWN)
OPERATIONS: Final = [
    Operation(
        "GET",
        "/api/images/history/",
        history,
        "Images, newest first",
        query=HistoryQuery,
        answers={200: HistoryPage},
        problems=(400, 401, 406, 413, 503),
    ),
    Operation("GET", f"/api/images/{_ID}/", get, "One image", answers={200: ImageAnswer}, problems=(406, *_OWN)),
    Operation("DELETE", f"/api/images/{_ID}/", delete, "Delete an image", answers={204: None}, problems=_CHANGES),
    Operation(
        "POST",
        f"/api/images/{_ID}/cancel/",
        cancel,
        "Cancel an image",
        answers={200: Cancelled},
        problems=(406, 409, *_CHANGES),
    ),
    Operation(
        "PATCH",
        f"/api/images/{_ID}/",
        pin,
        "Pin an image, or unpin it",
        body=Change,
        answers={200: ImageAnswer},
        problems=(406, 408, 415, *_CHANGES),
    ),
]


async def owned(call: Call, image_id: str) -> Image:
    """The image, if it is this owner's and not deleted; one of others is as absent as none."""
    return _owned(await call.context.store.get(images.parse_image_id(image_id)), call.owner, image_id)


async def _changed(call: Call, transition: Transition) -> Image:
    """Apply a move, within it the check that the image is this owner's."""
    image_id = images.parse_image_id(call.image_id)

    def owned_transition(image: Image) -> Image:
        return transition(_owned(image, call.owner, image_id))

    try:
        return await change(call.context.store, image_id, owned_transition)
    except InvalidTransition as invalid:
        raise InvalidTransition(
            f"image {image_id} is {invalid.status} already", status=invalid.status, code="already_final"
        ) from invalid


def _owned(image: Image | None, owner: str, image_id: str) -> Image:
    if image is None or image.owner != owner or image.deleted_at is not None:
        raise NotFound(f"there is no image {image_id}", code="image_not_found")
    return image


def _item(call: Call, image: Image) -> HistoryItem:
    view = call.context.view(image)
    return HistoryItem(**{name: getattr(view, name) for name in HistoryItem.model_fields})


def _cursor(image: Image) -> str:
    milliseconds = (image.created_at - _EPOCH) // timedelta(milliseconds=1)
    return f"{milliseconds:013d}.{image.id}"


def _position(cursor: str) -> HistoryPosition:
    """Its form was checked with the query."""
    milliseconds, _, image_id = cursor.partition(".")
    return HistoryPosition(_EPOCH + timedelta(milliseconds=int(milliseconds)), image_id)
