"""An order of n images: recorded as a whole, waited for as a whole.

`order` is the only place that knows how n images are ordered: as a batch, like `num_images` of Darkroom's own API.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from aiohttp import web

from common.domain.errors import Duplicate, NotFound
from common.domain.images import HTTP_SOURCE, Format, Image, Status
from common.domain.requests import GenerationRequest, new_image
from common.runtime.clock import latest_now
from common.runtime.logs import log_context
from common.runtime.tracing.spans import span
from services.api.context import Context
from services.api.middleware.request_reading import has_disconnected
from services.api.openai.errors import Unfinished

log = logging.getLogger(__name__)

LAST_READ_S: Final = 0.1  # an image whose turn comes after the wait is over is read once more
_STATUSES: Final = {"inference_refused": 400, "deadline": 504}


@dataclass(frozen=True, slots=True)
class OrderFailure:
    """Why an order has no picture: the status and the error of its answer. A repeat would not help."""

    status: int
    code: str
    message: str


async def order(
    context: Context,
    owner: str,
    request: GenerationRequest,
    n: int,
    *,
    order_id: str,
    wanted_format: Format | None = None,
    traceparent: str | None = None,
) -> list[Image]:
    """The images of the order with this id, recorded unless they are already; they wait for their turns.

    Raises:
        LimitReached: a limit of the owner is used up; nothing is recorded.
        Invalid: `too_many_images`, so many never fit.
    """
    first = await context.store.get(order_id)
    if first is None:
        now = latest_now(context.clock)
        whole = request.model_copy(update={"num_images": n})
        image = new_image(whole, image_id=order_id, owner=owner, source=HTTP_SOURCE, now=now)
        more = {"wanted_format": wanted_format, "traceparent": traceparent}
        first = await _record(context, image.model_copy(update=more))
    with log_context(first.id):
        # the first is recorded: the janitor does the rest if this fails
        return await context.batches.members(await context.batches.begin(first))


async def ended(context: Context, request: web.Request, images: Sequence[Image]) -> list[Image] | OrderFailure:
    """The completed images in their order when all have ended, or why there are none.

    After the time of GENERATION_DEADLINE those that are completed by then.

    Raises:
        Unfinished: that time is over without any, or the service stops.
        Disconnected: the client has left.
    """
    clock, limit_s = context.clock, context.settings.generation_deadline
    until_s = clock.monotonic() + limit_s
    found: list[Image | None] = []
    for image in images:
        left_s = max(until_s - clock.monotonic(), LAST_READ_S)
        has_left = partial(has_disconnected, request)
        found.append(await context.waits.until_final(image, timeout_s=left_s, has_left=has_left))
    kept = [image for image in found if image is not None and image.deleted_at is None]
    completed = [image for image in kept if image.status is Status.COMPLETED]
    is_open = any(not image.status.is_final for image in kept)
    if is_open and (not completed or clock.monotonic() < until_s):
        raise Unfinished(can_join=context.settings.has_identity)
    return completed or _failure(kept)


def _failure(images: Sequence[Image]) -> OrderFailure:
    error = next((image.error for image in images if image.error is not None), None)
    if error is not None:
        return OrderFailure(_STATUSES.get(error.code, 502), error.code, error.detail)
    if images:
        return OrderFailure(409, "cancelled", "The image was cancelled.")
    return OrderFailure(410, "image_deleted", "The image was deleted.")


async def _record(context: Context, image: Image) -> Image:
    try:
        with span("store record"):
            return (await context.admission.record(image))[0]
    except Duplicate:
        # the first request and its repeat arrived together
        existing = await context.store.get(image.id)
        if existing is None:
            raise NotFound("the image was removed meanwhile", code="image_deleted") from None
        return existing
