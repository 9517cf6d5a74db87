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

from common.application.quota_store import QuotaBook
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
from common.domain.owners import owner_name, scoped
from common.domain.requests import GenerationRequest, new_image
from common.messages import GenerateImage
from common.runtime import metrics
from common.runtime.logs import about
from common.store.port import change
from services.generator.context import Studio, persist
from services.generator.outcomes import LeaseLost, complete, fail_or_retry, give_back, remove_files, retry
from services.generator.pictures import check
from services.generator.progress import ProgressTeller

log = logging.getLogger(__name__)


async def generate(command: GenerateImage, studio: Studio) -> Outcome:
    """Carry out one order. Bears being called again for the same image, by this worker or another."""
    with about(command.id):
        try:
            image = await _claimed(command, studio)
        except NotFound:
            return Reject("unknown_image: no record of it, and the order is not complete")
        except (Invalid, LimitReached) as error:
            return Reject(f"{error.code}: {error.detail}")
        except InvalidTransition as invalid:
            return await _not_for_us(command.id, invalid, studio)
        if image.status.is_final:
            return await _over(image, studio)
        return await _work(image, studio)


async def _over(image: Image, studio: Studio) -> Outcome:
    """The claim itself has failed the image, which kills its workers: its order is kept for people to look at."""
    error = image.error or Failure(code=transitions.WORKER_LOST, detail="")
    log.warning("%s: %s", image.status, error.code)
    await studio.outbox.try_announce(image)
    return Reject(f"{error.code}: {error.detail}")


async def _claimed(command: GenerateImage, studio: Studio) -> Image:
    transition = partial(
        transitions.claim,
        lease=studio.lease(),
        now=studio.clock.settled(),
        deadline=timedelta(seconds=studio.settings.generation_deadline),
    )
    try:
        return await studio.transition(images.image_id(command.id), transition)
    except NotFound:
        if not isinstance(command.data, GenerationRequest):
            raise
        await _record(command, command.data, studio)
        return await studio.transition(command.id, transition)


async def _record(command: GenerateImage, request: GenerationRequest, studio: Studio) -> None:
    """Put another service's order on record, once. Its publisher is believed about the owner."""
    if not command.owner:
        raise Invalid("an order names its owner", code="owner_missing")
    owner = owner_name(command.owner)
    now = studio.clock.now()
    if now - command.time > timedelta(seconds=studio.settings.tombstone_age):
        raise Invalid("the order is too old to know whether it was deleted", code="order_expired")
    book = QuotaBook(
        kind="orders", limit=studio.settings.publisher_requests_per_hour, store=studio.store, clock=studio.clock
    )
    await persist(lambda: book.enter(scoped(owner, command.source), command.id))
    image = new_image(
        request,
        image_id=command.id,
        owner=owner,
        source=command.source,
        now=now,
        traceparent=command.traceparent,
    ).model_copy(update={"sent_at": now})
    try:
        await persist(lambda: studio.store.insert(image))
    except Duplicate:
        log.info("the order came twice; it is on record")


async def _not_for_us(image_id: str, invalid: InvalidTransition, studio: Studio) -> Outcome:
    if invalid.code == "leased":
        # giving it back would make it go round and round: reconcile looks after it
        log.info("another worker has it; dropped")
        return Done()
    image = await persist(lambda: studio.store.get(image_id))
    if image is None:
        return Done()
    if invalid.code == "too_early" and image.not_before is not None:
        return Retry((image.not_before - studio.clock.settled()).total_seconds())
    log.info("nothing to do: it is %s", image.status)
    await studio.outbox.try_announce(image)
    return Done()


async def _work(image: Image, studio: Studio) -> Outcome:
    """Paint under the lease, then settle the record, then tell."""
    log.info("started, attempt %d", image.attempts)
    try:
        after, delay_s = await _settled(image, studio)
    except LeaseLost as lost:
        log.info("dropped: %s", lost)
        metrics.attempts.labels("lost").inc()
        await remove_files(image, studio)
        return Done()
    except asyncio.CancelledError:
        await give_back(image, studio)
        raise
    metrics.attempts.labels(after.status if after.status.is_final else "retried").inc()
    if after.status.is_final:
        await studio.outbox.try_announce(after)
    else:
        await studio.outbox.try_order(after, delay_s=delay_s)
    return Done()


async def _settled(image: Image, studio: Studio) -> tuple[Image, float]:
    """The record after this attempt, and how long its next one waits.

    The lease is not renewed while the record is settled: the move is fenced by it, and refused if it was lost.
    """
    try:
        picture = await _under_lease(image, studio)
    except InferenceError as error:
        studio.circuit.failed(error)
        return await fail_or_retry(image, error, studio)
    except Unavailable as error:  # of the media: a full disk is not the image's failure
        await remove_files(image, studio)
        return await retry(image, error, studio.settings.retry_delays[0], counts=False, studio=studio)
    studio.circuit.succeeded()
    return await complete(image, picture, studio), 0


async def _under_lease(image: Image, studio: Studio) -> Picture:
    try:
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(_keep_lease(image, studio))
            teller = ProgressTeller(image, studio.outbox, studio.clock)
            telling = group.create_task(teller.run())
            # beside the painting; before an end is told the group waits for it, so that it stands first in the log
            group.create_task(_tell_started(image, studio))
            try:
                return await _paint(image, studio, teller)
            finally:
                keeper.cancel()
                telling.cancel()
    except BaseExceptionGroup as errors:
        # a group of one is how a TaskGroup passes on what happened in it
        raise errors.exceptions[0] from None


async def _keep_lease(image: Image, studio: Studio) -> None:
    """Renew the lease at a third of it, until told that the image is no longer ours."""
    stopped = studio.at_work.setdefault(image.id, asyncio.Event())
    try:
        while True:
            try:
                async with asyncio.timeout(studio.settings.lease / 3):
                    await stopped.wait()
            except TimeoutError:
                await _renew(image, studio)
            else:
                raise LeaseLost("cancelled or deleted")
    finally:
        studio.at_work.pop(image.id, None)


async def _renew(image: Image, studio: Studio) -> None:
    try:
        await change(studio.store, image.id, partial(transitions.renew, lease=studio.lease(), attempt=image.attempts))
    except (InvalidTransition, NotFound) as error:
        raise LeaseLost(error.detail) from error
    except Unavailable as error:
        log.warning("lease not renewed: %s", error)


async def _tell_started(image: Image, studio: Studio) -> None:
    try:
        await studio.outbox.bus.publish(studio.outbox.event(image, "image.started"))
    except Unavailable as error:
        log.warning("start not told: %s", error)  # what follows tells it as well


async def _paint(image: Image, studio: Studio, teller: ProgressTeller) -> Picture:
    """Paint, check, and keep file and thumbnail.

    Raises:
        InferenceError: no usable picture came.
        Unavailable: the media do not take it.
    """
    settings = studio.settings
    started_s = studio.clock.monotonic()
    content = await studio.inference.paint(image, teller.step, teller.preview if settings.previews else None)
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
        generation_time=round(studio.clock.monotonic() - started_s, 3),
    )
    await _keep({picture.image_file: content, picture.thumbnail: checked.thumbnail}, studio)
    return picture


async def _keep(files: Mapping[str, bytes], studio: Studio) -> None:
    """All at once, for each waits for the disk; where one is not taken, the others are waited for all the same."""
    puts = (studio.media.put(key, content) for key, content in files.items())
    for outcome in await asyncio.gather(*puts, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
