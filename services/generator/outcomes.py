"""The outcomes of an attempt: completed, queued again, failed or given back.

Each is a transition that names the worker's lease, and is refused once that lease is lost. A command that this worker
cannot take has an outcome too, without an attempt: its image waits for another turn.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from functools import partial

from common.domain import images, transitions
from common.domain.errors import (
    BadImage,
    Denied,
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
from common.runtime.tracing.spans import span
from common.runtime.uncancelled import run_to_end
from common.store.port import change
from services.generator.context import GenerationContext
from services.generator.lease import lease_required

log = logging.getLogger(__name__)

GIVE_BACK_S = 5.0  # a stopping worker does not wait longer for the store; its lease expires anyway


async def complete(image: Image, picture: Picture, context: GenerationContext) -> Image:
    """Complete the record. The files come first, so that a record never points at a missing file."""
    transition = partial(
        transitions.complete,
        lease=context.lease_of(image),
        attempt=image.attempts,
        picture=picture,
        now=context.clock.now(),
    )
    with lease_required(), span("store record"):
        completed = await context.transition(image.id, transition, snapshot=image)
    metrics.painting.labels(context.settings.generator_pool).observe(picture.generation_time)
    log.info("completed in %.2f s, %d bytes", picture.generation_time, picture.file_size)
    return completed


async def fail_or_retry(image: Image, error: InferenceError, context: GenerationContext) -> tuple[Image, float]:
    """Retry or fail the image after an error of the inference service, by the table of docs/inference-http.md.

    Returns the new record, and the seconds until its next attempt.
    """
    delays = context.settings.retry_delays
    match error:
        case Unreachable() | Denied():
            return await retry(image, error, delays[0], counts=False, context=context)
        case Transient(retry_after_s=retry_after_s):
            delay_s = retry_after_s if retry_after_s is not None else delays[min(image.failures, len(delays) - 1)]
            return await retry(image, error, delay_s, counts=True, context=context)
        case BadImage() if image.error is None or image.error.code != BadImage.code:
            return await retry(image, error, delays[0], counts=False, context=context)
        case _:
            return await _fail(image, error, context), 0


async def fail_attempt(image: Image, error: BaseException, context: GenerationContext) -> tuple[Image, float]:
    """Count an unforeseen error as a failure of the attempt; owners see a constant text. Returns as `fail_or_retry`."""
    log.error("the attempt failed", exc_info=error)
    delays = context.settings.retry_delays
    failure = ServiceError("an internal error; the log of the generator has the details")
    delay_s = delays[min(image.failures, len(delays) - 1)]
    after, delay_s = await retry(image, failure, delay_s, counts=True, context=context)
    await remove_files(image, context)
    return after, delay_s


async def retry(
    image: Image, error: ServiceError, delay_s: float, *, counts: bool, context: GenerationContext
) -> tuple[Image, float]:
    """Queue the image again. The command waits in the broker, so the delay blocks no worker."""
    now = context.clock.stable_now()
    delay_s = min(delay_s, context.settings.generation_deadline)  # an inference service may ask for any delay
    transition = partial(
        transitions.retry,
        lease=context.lease_of(image),
        attempt=image.attempts,
        error=Failure(code=error.code, detail=error.detail),
        not_before=now + timedelta(seconds=delay_s),
        counts=counts,
        now=now,
        refused=isinstance(error, InferenceError) and error.needs_new_id,
    )
    with lease_required(), span("store record"):
        after = await context.transition(image.id, transition)
    log.info("%s, next attempt in %g s: %s", after.status, delay_s, error.detail)
    return after, delay_s


async def _fail(image: Image, error: InferenceError, context: GenerationContext) -> Image:
    transition = partial(
        transitions.fail,
        lease=context.lease_of(image),
        attempt=image.attempts,
        error=Failure(code=error.code, detail=error.detail),
        now=context.clock.now(),
    )
    log.warning("failed: %s", error.detail)
    with lease_required(), span("store record"):
        return await context.transition(image.id, transition)


async def give_back(image: Image, context: GenerationContext, *, has_message: bool) -> None:
    """Queue the image again because this process stops; no failure is counted.

    The broker returns the message to its queue, unless it was acknowledged when the picture was painted.
    """
    transition = partial(
        transitions.give_back, lease=context.lease_of(image), attempt=image.attempts, now=context.clock.stable_now()
    )
    try:
        async with asyncio.timeout(GIVE_BACK_S):
            queued = await change(context.store, image.id, transition)
            if not has_message:
                await context.outbox.try_dispatch(queued)
        log.info("given back to the queue")
    except (TimeoutError, ServiceError) as error:
        log.info("not given back to the queue: %s", error)
    await remove_files(image, context)


async def set_waiting(image: Image, context: GenerationContext, *, delay_s: float, reason: str) -> None:
    """Let a queued image that this worker cannot take wait for its next turn, at least `delay_s`; 0 is at once.

    Its slot is free at once, and its attempts do not change. The next turn chooses the pool again. The caller
    acknowledges the command afterwards: if this process dies before, the command is dropped, as the image waits.
    """
    now = context.clock.stable_now()
    not_before = now + timedelta(seconds=delay_s) if delay_s else None
    transition = partial(transitions.set_waiting, now=now, not_before=not_before)
    try:
        waiting = await context.transition(image.id, transition)
    except (InvalidTransition, NotFound) as refusal:
        log.info("not set waiting: %s", refusal)  # it has been cancelled, or claimed by another worker
        return
    log.info("waits: %s", reason)
    await context.outbox.try_publish_pending(waiting)
    await context.outbox.try_dispatch_waiting(image.owner, model=image.model)
    if delay_s:
        context.later_turns.add(image.owner, delay_s)


async def remove_files(image: Image, context: GenerationContext) -> None:
    """Remove the files that this attempt may have written, except those that the record names.

    All its writes must have ended. Removing ends even if the caller is cancelled: no other attempt has these names.
    """
    await run_to_end(_remove_files(image, context))


async def _remove_files(image: Image, context: GenerationContext) -> None:
    try:
        record = await context.store.get(image.id)
        kept = {record.image_file, record.thumbnail} if record is not None else set()
        await context.media.remove([key for key in images.attempt_keys(image) if key not in kept])
    except Unavailable as error:
        log.warning("files not removed, the sweep will: %s", error)
