"""Handling of one `image.cancel` command of another service."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial

from common.application.early_cancels import remember_cancel
from common.bus.port import DeadLetter, Done, Outcome, Reject, Retry
from common.domain import images, transitions
from common.domain.errors import Forbidden, Invalid, InvalidTransition, NotFound, Unavailable, Unreadable
from common.domain.images import Image
from common.messages import CancelImage, Command, Tick
from common.runtime.logs import log_context
from common.store.port import change
from services.janitor.context import JanitorContext

log = logging.getLogger(__name__)


async def cancel(command: Command | Tick | DeadLetter, *, context: JanitorContext) -> Outcome:
    """Cancel the image that the command names, if its sender may; a cancel before its request is remembered."""
    if not isinstance(command, CancelImage):
        return Done()
    with log_context(command.subject, command.traceparent):
        try:
            cancelled = await _cancel(images.parse_image_id(command.subject), command, context)
        except (Invalid, Forbidden, Unreadable) as error:  # the record does not become readable by waiting
            log.warning("not cancelled: %s", error)
            return Reject(f"{error.code}: {error.detail}")
        except InvalidTransition as refusal:
            log.info("not cancelled: %s", refusal)
            return Done()
        except NotFound:
            log.info("the cancel has no record yet, and is remembered")
            return Done()
        except Unavailable:
            return Retry(context.settings.retry_delays[0])
        log.info("cancelled %d", len(cancelled))
        for image in cancelled:
            await context.outbox.try_publish_pending(image)
        return Done()


async def _cancel(image_id: str, command: CancelImage, context: JanitorContext) -> list[Image]:
    """The cancelled records.

    Raises:
        NotFound: it is not recorded yet; the cancel is remembered as long as a request may wait.
    """

    async def cancel_recorded() -> list[Image]:
        cancel_these = _cancel_batch if command.data.batch else _cancel_one
        return await cancel_these(image_id, command, context)

    try:
        return await cancel_recorded()
    except NotFound:
        # by our clock, not by the command's: its date may be far in the future
        expires_at = context.latest() + timedelta(seconds=context.settings.generation_deadline)
        await remember_cancel(context.store, image_id, command, expires_at=expires_at)
        return await cancel_recorded()


async def _cancel_one(image_id: str, command: CancelImage, context: JanitorContext) -> list[Image]:
    def cancelled(image: Image) -> Image:
        _require_allowed(image, command)
        return transitions.cancel(image, now=context.clock.now())

    return [await change(context.store, image_id, cancelled)]


async def _cancel_batch(image_id: str, command: CancelImage, context: JanitorContext) -> list[Image]:
    image = await context.store.get(image_id)
    if image is None:
        raise NotFound(f"there is no image {image_id}", code="image_not_found")
    _require_allowed(image, command)
    return await context.batches.change(image, partial(transitions.cancel, now=context.clock.now()))


def _require_allowed(image: Image, command: CancelImage) -> None:
    if not image.may_be_cancelled_by(source=command.source, owner=command.owner):
        raise Forbidden(f"the source and owner of this cancel are not those of image {image.id}")
