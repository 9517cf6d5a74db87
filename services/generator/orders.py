"""The intake of `image.generate` commands of other services.

    request of a service ─▶ record: dispatched, or in the line of its owner ─▶ its command goes to the work queue
    command of an older release, for an image on record ─▶ the same command goes to the work queue

Nothing is painted here. Otherwise the requests that one service has published at once would be painted in a row: none
of them would be on record as waiting.
"""

from __future__ import annotations

import logging
from functools import partial

from common.application.early_cancels import EarlyCancel, find_early_cancel
from common.application.fleet.defaults import completed
from common.application.fleet.validation import require_offered
from common.application.intake import image_from_command
from common.application.webhooks.destinations import Destinations
from common.bus.port import Done, Outcome, Reject, Retry
from common.domain import images, transitions
from common.domain.errors import Duplicate, Forbidden, Invalid, InvalidTransition, LimitReached, NotFound, Unavailable
from common.domain.images import Image, Status
from common.domain.requests import GenerationRequest
from common.messages import GenerateImage
from common.runtime.clock import latest_now
from common.runtime.logs import log_context
from common.runtime.tracing.spans import span
from services.generator.context import GenerationContext, retry_while_unavailable

log = logging.getLogger(__name__)

_OF_THE_HOUR = "hourly_limit"
_OF_THE_LINE = "limit_reached"


async def take_in(command: GenerateImage, context: GenerationContext) -> Outcome:
    """Record the request of a command, and send what may be painted; it may be delivered again."""
    with log_context(command.id, command.traceparent):
        try:
            image = await _recorded(command, context)
        except NotFound:
            return Reject("unknown_image: it has no record, and the command holds no request")
        except LimitReached as error:
            return Reject(f"{_OF_THE_HOUR if error.code == _OF_THE_HOUR else _OF_THE_LINE}: {error.detail}")
        except (Invalid, Forbidden) as error:
            return Reject(f"{error.code}: {error.detail}")
        return await _send_on(image, context)


async def _recorded(command: GenerateImage, context: GenerationContext) -> Image:
    """The record of the image that the command requests, or refers to."""
    image_id = images.parse_image_id(command.id)
    if isinstance(command.data, GenerationRequest):
        return await _ensure_recorded(command, command.data, context)
    image = await retry_while_unavailable(lambda: context.store.get(image_id))
    if image is None:
        raise NotFound(f"there is no image {image_id}", code="unknown_image")
    return image


async def _send_on(image: Image, context: GenerationContext) -> Outcome:
    """Let the image go on from its state. A repeated command does no harm: of two commands one is dropped."""
    if image.batch is not None:
        await retry_while_unavailable(lambda: context.batches.begin(image))
        log.info("taken in, with %d others", image.batch.count - 1)
    elif image.status.is_final:
        log.info("skipped: it is %s", image.status)
        await context.outbox.try_publish_pending(image)
    elif image.is_waiting:
        await context.outbox.begin(image)
        log.info("taken in")
    elif image.status is Status.QUEUED:
        try:
            await context.outbox.dispatch(image)
        except Unavailable:
            # its record may say that it was sent, to this queue
            return Retry(context.settings.retry_delays[0])
        log.info("sent to the work queue")
    else:
        log.info("skipped: a worker holds it")
    return Done()


async def _ensure_recorded(command: GenerateImage, request: GenerationRequest, context: GenerationContext) -> Image:
    """The record of the request; cancelled, if its cancel was delivered before it.

    Raises:
        Invalid, LimitReached: it is not accepted.
        Forbidden: its id is that of an image that another service or owner has requested.
    """
    image = await retry_while_unavailable(lambda: context.store.get(command.id))
    if image is None:
        image = await _record(command, request, context)
    if not image.is_from(source=command.source, owner=command.owner):
        raise Forbidden("the id is that of an image of another source or owner", code="id_taken")
    # at each delivery: the process may have died between the record and this look
    if image.status.is_final and image.batch is None:
        return image
    early = await retry_while_unavailable(lambda: find_early_cancel(context.store, image))
    if early is EarlyCancel.NOTHING:
        return image
    log.info("its cancel was delivered before it")
    cancel = partial(transitions.cancel, now=context.clock.now())
    if early is EarlyCancel.BATCH:
        await retry_while_unavailable(lambda: context.batches.change(image, cancel))
    else:
        await _cancel(image, context)
    return await retry_while_unavailable(lambda: context.store.get(image.id)) or image


async def _record(command: GenerateImage, request: GenerationRequest, context: GenerationContext) -> Image:
    view = await retry_while_unavailable(context.fleet.current)
    request = completed(request, view)
    require_offered(request, view)
    Destinations.of(context.settings).require(request.webhook)
    now = latest_now(context.clock)
    image = image_from_command(command, request, now=now, max_age_s=context.settings.tombstone_age)
    try:
        with span("store record"):
            recorded, _ = await retry_while_unavailable(lambda: context.intake.record(image, quota_key=image.owner))
    except Duplicate:
        log.info("the command was delivered twice; its image is on record")
        return await retry_while_unavailable(lambda: context.store.get(image.id)) or image
    return recorded


async def _cancel(image: Image, context: GenerationContext) -> None:
    try:
        await context.transition(image.id, partial(transitions.cancel, now=context.clock.now()))
    except InvalidTransition as refusal:
        log.info("not cancelled: %s", refusal)
