"""What an attempt comes to: its record settled, by moves that are fenced by its lease."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from datetime import timedelta
from functools import partial

from common.domain import images, transitions
from common.domain.errors import (
    BadImage,
    InferenceError,
    InvalidTransition,
    NotFound,
    ServiceError,
    Transient,
    Unavailable,
    Unreachable,
)
from common.domain.images import Failure, Image, Picture
from common.runtime import metrics
from common.store.port import change
from services.generator.context import GenerationContext

log = logging.getLogger(__name__)

GIVE_BACK_S = 5.0  # a stopping worker does not wait longer for the store; the lease runs out by itself


class LeaseLost(Exception):
    """The image is no longer this worker's: cancelled, deleted, or taken over."""


async def complete(image: Image, picture: Picture, context: GenerationContext) -> Image:
    """After the files, the record: it never points at nothing."""
    transition = partial(
        transitions.complete, lease=context.lease(), attempt=image.attempts, picture=picture, now=context.clock.now()
    )
    completed = await _ours(context.transition(image.id, transition, snapshot=image))
    metrics.painting.observe(picture.generation_time)
    log.info("completed in %.2f s, %d bytes", picture.generation_time, picture.file_size)
    return completed


async def fail_or_retry(image: Image, error: InferenceError, context: GenerationContext) -> tuple[Image, float]:
    """What the inference service's failure means for the image: the table of docs/inference-http.md."""
    delays = context.settings.retry_delays
    match error:
        case Unreachable():
            return await retry(image, error, delays[0], counts=False, context=context)
        case Transient(retry_after_s=asked):
            delay_s = asked if asked is not None else delays[min(image.failures, len(delays) - 1)]
            return await retry(image, error, delay_s, counts=True, context=context)
        case BadImage() if image.error is None or image.error.code != BadImage.code:
            return await retry(image, error, delays[0], counts=False, context=context)
        case _:
            return await _fail(image, error, context), 0


async def retry(
    image: Image, error: ServiceError, delay_s: float, *, counts: bool, context: GenerationContext
) -> tuple[Image, float]:
    """Back to the queue; the command waits in the broker, no slot is held here."""
    now = context.clock.stable_now()
    delay_s = min(delay_s, context.settings.generation_deadline)  # a service may ask for more, of any size
    transition = partial(
        transitions.retry,
        lease=context.lease(),
        attempt=image.attempts,
        error=Failure(code=error.code, detail=error.detail),
        not_before=now + timedelta(seconds=delay_s),
        counts=counts,
        now=now,
    )
    after = await _ours(context.transition(image.id, transition))
    log.info("%s, again in %g s: %s", after.status, delay_s, error.detail)
    return after, delay_s


async def _fail(image: Image, error: InferenceError, context: GenerationContext) -> Image:
    transition = partial(
        transitions.fail,
        lease=context.lease(),
        attempt=image.attempts,
        error=Failure(code=error.code, detail=error.detail),
        now=context.clock.now(),
    )
    log.warning("failed: %s", error.detail)
    return await _ours(context.transition(image.id, transition))


async def give_back(image: Image, context: GenerationContext) -> None:
    """This process stops: the image goes back to the queue with no failure counted, the message to the broker."""
    transition = partial(
        transitions.give_back, lease=context.lease(), attempt=image.attempts, now=context.clock.stable_now()
    )
    try:
        async with asyncio.timeout(GIVE_BACK_S):
            await change(context.store, image.id, transition)
            await remove_files(image, context)
        log.info("given back")
    except (TimeoutError, ServiceError) as error:
        log.info("not given back: %s", error)


async def remove_files(image: Image, context: GenerationContext) -> None:
    """What this attempt may have written; no other attempt writes under its names."""
    try:
        await context.media.remove(images.attempt_keys(image))
    except Unavailable as error:
        log.warning("files left for the sweep: %s", error)


async def _ours(moved: Awaitable[Image]) -> Image:
    try:
        return await moved
    except (InvalidTransition, NotFound) as error:
        raise LeaseLost(error.detail) from error
