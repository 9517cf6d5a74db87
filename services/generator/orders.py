"""Records of the images that other services request by command."""

from __future__ import annotations

import logging
from functools import partial

from common.application.early_cancels import was_cancelled_early
from common.application.fleet.validation import require_offered
from common.application.intake import image_from_command
from common.domain import transitions
from common.domain.errors import Duplicate, Forbidden, InvalidTransition
from common.domain.images import Image
from common.domain.requests import GenerationRequest
from common.messages import GenerateImage
from services.generator.context import GenerationContext, retry_while_unavailable

log = logging.getLogger(__name__)


async def ensure_recorded(command: GenerateImage, request: GenerationRequest, context: GenerationContext) -> None:
    """Record the request, unless it is on record already; cancelled, if its cancel was delivered before it.

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
    if not image.status.is_final and await _was_cancelled_early(image, context):
        log.info("its cancel was delivered before it")
        await _cancel(image, context)


async def _record(command: GenerateImage, request: GenerationRequest, context: GenerationContext) -> Image:
    require_offered(request, await retry_while_unavailable(context.fleet.current))
    image = image_from_command(command, request, now=context.clock.now(), max_age_s=context.settings.tombstone_age)
    try:
        recorded, _ = await retry_while_unavailable(lambda: context.intake.record(image, quota_key=image.owner))
    except Duplicate:
        log.info("the command was delivered twice; its image is on record")
        return await retry_while_unavailable(lambda: context.store.get(image.id)) or image
    return recorded


async def _was_cancelled_early(image: Image, context: GenerationContext) -> bool:
    return await retry_while_unavailable(lambda: was_cancelled_early(context.store, image))


async def _cancel(image: Image, context: GenerationContext) -> None:
    try:
        # the claim that follows is refused, and publishes the pending event
        await context.transition(image.id, partial(transitions.cancel, now=context.clock.now()))
    except InvalidTransition as refusal:
        log.info("not cancelled: %s", refusal)
