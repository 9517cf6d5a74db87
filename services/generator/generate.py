"""The story of one command, top to bottom: claim, paint, check, keep, tell.

    claim ─▶ started ∥ paint ─▶ check ─▶ file ∥ thumbnail ─▶ record ─▶ completed ─▶ done
                         │                                     │
                         └─ fails: back to the queue, or failed└─ no longer ours: its files are removed

Each step may be the last one this process ever makes; the next worker, or the janitor, goes on from the record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta
from functools import partial

from common.application.quota_store import QuotaStore
from common.bus.port import Done, Outcome, Reject, Retry
from common.domain import images, transitions
from common.domain.errors import (
    Duplicate,
    InferenceError,
    Invalid,
    InvalidTransition,
    LimitReached,
    NotFound,
    Unavailable,
)
from common.domain.images import Failure, Format, Image, Picture
from common.domain.owners import parse_owner, scoped_key
from common.domain.requests import GenerationRequest, new_image
from common.messages import GenerateImage
from common.runtime import metrics
from common.runtime.logs import log_context
from common.store.port import change
from services.generator.context import GenerationContext, persist
from services.generator.outcomes import LeaseLost, complete, fail_or_retry, give_back, remove_files, retry
from services.generator.pictures import check
from services.generator.progress import ProgressTeller

log = logging.getLogger(__name__)


async def generate(command: GenerateImage, context: GenerationContext) -> Outcome:
    """Carry out one order. Bears being called again for the same image, by this worker or another."""
    with log_context(command.id):
        try:
            image = await _claimed(command, context)
        except NotFound:
            return Reject("unknown_image: no record of it, and the order is not complete")
        except (Invalid, LimitReached) as error:
            return Reject(f"{error.code}: {error.detail}")
        except InvalidTransition as invalid:
            return await _not_for_us(command.id, invalid, context)
        if image.status.is_final:
            return await _over(image, context)
        return await _work(image, context)


async def _over(image: Image, context: GenerationContext) -> Outcome:
    """The claim itself has failed the image, which kills its workers: its order is kept for people to look at."""
    error = image.error or Failure(code=transitions.WORKER_LOST, detail="")
    log.warning("%s: %s", image.status, error.code)
    await context.outbox.try_publish_pending(image)
    return Reject(f"{error.code}: {error.detail}")


async def _claimed(command: GenerateImage, context: GenerationContext) -> Image:
    transition = partial(
        transitions.claim,
        lease=context.lease(),
        now=context.clock.stable_now(),
        deadline=timedelta(seconds=context.settings.generation_deadline),
    )
    try:
        return await context.transition(images.parse_image_id(command.id), transition)
    except NotFound:
        if not isinstance(command.data, GenerationRequest):
            raise
        await _record(command, command.data, context)
        return await context.transition(command.id, transition)


async def _record(command: GenerateImage, request: GenerationRequest, context: GenerationContext) -> None:
    """Put another service's order on record, once. Its publisher is believed about the owner."""
    if not command.owner:
        raise Invalid("an order names its owner", code="owner_missing")
    owner = parse_owner(command.owner)
    now = context.clock.now()
    if now - command.time > timedelta(seconds=context.settings.tombstone_age):
        raise Invalid("the order is too old to know whether it was deleted", code="order_expired")
    book = QuotaStore(
        kind="orders", limit=context.settings.publisher_requests_per_hour, store=context.store, clock=context.clock
    )
    await persist(lambda: book.reserve(scoped_key(owner, command.source), command.id))
    image = new_image(
        request,
        image_id=command.id,
        owner=owner,
        source=command.source,
        now=now,
        traceparent=command.traceparent,
    ).model_copy(update={"sent_at": now})
    try:
        await persist(lambda: context.store.insert(image))
    except Duplicate:
        log.info("the order came twice; it is on record")


async def _not_for_us(image_id: str, invalid: InvalidTransition, context: GenerationContext) -> Outcome:
    if invalid.code == "leased":
        # giving it back would make it go round and round: reconcile looks after it
        log.info("another worker has it; dropped")
        return Done()
    image = await persist(lambda: context.store.get(image_id))
    if image is None:
        return Done()
    if invalid.code == "too_early" and image.not_before is not None:
        return Retry((image.not_before - context.clock.stable_now()).total_seconds())
    log.info("nothing to do: it is %s", image.status)
    await context.outbox.try_publish_pending(image)
    return Done()


async def _work(image: Image, context: GenerationContext) -> Outcome:
    """Paint under the lease, then settle the record, then tell."""
    log.info("started, attempt %d", image.attempts)
    try:
        after, delay_s = await _settled(image, context)
    except LeaseLost as lost:
        log.info("dropped: %s", lost)
        metrics.attempts.labels("lost").inc()
        await remove_files(image, context)
        return Done()
    except asyncio.CancelledError:
        await give_back(image, context)
        raise
    metrics.attempts.labels(after.status if after.status.is_final else "retried").inc()
    if after.status.is_final:
        await context.outbox.try_publish_pending(after)
    else:
        await context.outbox.try_dispatch(after, delay_s=delay_s)
    return Done()


async def _settled(image: Image, context: GenerationContext) -> tuple[Image, float]:
    """The record after this attempt, and how long its next one waits.

    The lease is not renewed while the record is settled: the move is fenced by it, and refused if it was lost.
    """
    try:
        picture = await _under_lease(image, context)
    except InferenceError as error:
        context.circuit.failed(error)
        return await fail_or_retry(image, error, context)
    except Unavailable as error:  # of the media: a full disk is not the image's failure
        await remove_files(image, context)
        return await retry(image, error, context.settings.retry_delays[0], counts=False, context=context)
    context.circuit.succeeded()
    return await complete(image, picture, context), 0


async def _under_lease(image: Image, context: GenerationContext) -> Picture:
    try:
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(_keep_lease(image, context))
            teller = ProgressTeller(image, context.outbox, context.clock)
            telling = group.create_task(teller.run())
            # beside the painting; before an end is told the group waits for it, so that it stands first in the log
            group.create_task(_tell_started(image, context))
            try:
                return await _paint(image, context, teller)
            finally:
                keeper.cancel()
                telling.cancel()
    except BaseExceptionGroup as errors:
        # a group of one is how a TaskGroup passes on what happened in it
        raise errors.exceptions[0] from None


async def _keep_lease(image: Image, context: GenerationContext) -> None:
    """Renew the lease at a third of it, until told that the image is no longer ours."""
    stopped = context.at_work.setdefault(image.id, asyncio.Event())
    try:
        while True:
            try:
                async with asyncio.timeout(context.settings.lease / 3):
                    await stopped.wait()
            except TimeoutError:
                await _renew(image, context)
            else:
                raise LeaseLost("cancelled or deleted")
    finally:
        context.at_work.pop(image.id, None)


async def _renew(image: Image, context: GenerationContext) -> None:
    try:
        await change(context.store, image.id, partial(transitions.renew, lease=context.lease(), attempt=image.attempts))
    except (InvalidTransition, NotFound) as error:
        raise LeaseLost(error.detail) from error
    except Unavailable as error:
        log.warning("lease not renewed: %s", error)


async def _tell_started(image: Image, context: GenerationContext) -> None:
    try:
        await context.outbox.publish_started(image)
    except Unavailable as error:
        log.warning("start not told: %s", error)  # what follows tells it as well


async def _paint(image: Image, context: GenerationContext, teller: ProgressTeller) -> Picture:
    """Paint, check, and keep file and thumbnail.

    Raises:
        InferenceError: no usable picture came.
        Unavailable: the media do not take it.
    """
    settings = context.settings
    started_s = context.clock.monotonic()
    content = await context.inference.paint(image, teller.step, teller.preview if settings.previews else None)
    checked = await asyncio.to_thread(
        check,
        content,
        max_pixels=settings.max_image_pixels,
        thumbnail_size=settings.thumbnail_size,
        thumbnail_format=Format(settings.thumbnail_format) if settings.thumbnail_format else None,
    )
    picture = Picture(
        image_file=images.image_key(image, checked.format),
        thumbnail=images.thumbnail_key(image, checked.thumbnail_format),
        format=checked.format,
        file_size=len(content),
        width=checked.width,
        height=checked.height,
        generation_time=round(context.clock.monotonic() - started_s, 3),
    )
    await _keep({picture.image_file: content, picture.thumbnail: checked.thumbnail}, context)
    return picture


async def _keep(files: Mapping[str, bytes], context: GenerationContext) -> None:
    """All at once, for each waits for the disk; where one is not taken, the others are waited for all the same."""
    puts = (context.media.put(key, content) for key, content in files.items())
    for outcome in await asyncio.gather(*puts, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
