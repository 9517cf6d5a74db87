"""The story of one command, top to bottom: claim, paint, check, keep, tell.

    claim ─▶ started ─▶ paint ─▶ check ─▶ file + thumbnail ─▶ record ─▶ completed ─▶ done
                         │                                     │
                         └─ fails: back to the queue, or failed└─ no longer ours: its files are removed

Each step may be the last one this process ever makes; the next worker, or the janitor, goes on from the record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TypeVar

from common import images, metrics, moves
from common.bus.port import Done, Outcome, Reject, Retry
from common.clock import Clock
from common.errors import (
    BadImage,
    Duplicate,
    InferenceError,
    Invalid,
    LimitReached,
    NotFound,
    Refused,
    ServiceError,
    Transient,
    Unavailable,
    Unreachable,
)
from common.images import Failure, Format, Image, Lease, Picture
from common.logs import about
from common.media.port import Media
from common.messages import GenerateImage
from common.orders import GenerationRequest, new_image
from common.outbox import Outbox
from common.owners import owner_name, scoped
from common.quota_book import QuotaBook
from common.settings import Settings
from common.store.port import Move, Store, change
from services.generator.circuit import Circuit
from services.generator.inference import InferenceClient
from services.generator.pictures import check
from services.generator.progress import ProgressTeller

log = logging.getLogger(__name__)

T = TypeVar("T")
STORE_PAUSE_S = 1.0  # between two tries while the store is away; the delivery is kept meanwhile
GIVE_BACK_S = 5.0  # a stopping worker does not wait longer for the store; the lease runs out by itself


class LeaseLost(Exception):
    """The image is no longer this worker's: cancelled, deleted, or taken over."""


@dataclass(slots=True)
class Studio:
    """All that painting needs; one for each process."""

    store: Store
    outbox: Outbox
    media: Media
    inference: InferenceClient
    circuit: Circuit
    settings: Settings
    clock: Clock
    token: str
    worker: str
    at_work: dict[str, asyncio.Event] = field(default_factory=dict)

    def stop_work(self, image_id: str) -> None:
        """Heard that this image is cancelled or deleted: drop it, if it is here."""
        if stopped := self.at_work.get(image_id):
            stopped.set()

    def lease(self) -> Lease:
        until = self.clock.settled() + timedelta(seconds=self.settings.lease)
        return Lease(token=self.token, worker=self.worker, until=until)

    async def move(self, image_id: str, move: Move, *, known: Image | None = None) -> Image:
        """Apply a move, however long the store is away."""
        return await persist(lambda: change(self.store, image_id, move, known=known))


async def persist(write: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await write()
        except Unavailable as error:
            log.warning("waiting for the store: %s", error)
            await asyncio.sleep(STORE_PAUSE_S)


async def generate(command: GenerateImage, studio: Studio) -> Outcome:
    """Carry out one order. Bears being called again for the same image, by this worker or another."""
    with about(command.id):
        try:
            image = await _claimed(command, studio)
        except NotFound:
            return Reject("unknown_image: no record of it, and the order is not complete")
        except (Invalid, LimitReached) as error:
            return Reject(f"{error.code}: {error.detail}")
        except Refused as refused:
            return await _not_for_us(command.id, refused, studio)
        if image.status.is_final:
            return await _over(image, studio)
        return await _work(image, studio)


async def _over(image: Image, studio: Studio) -> Outcome:
    """The claim itself has failed the image. An order that kills its workers is kept for people to look at."""
    error = image.error or Failure(code=image.status, detail="")
    log.warning("%s: %s", image.status, error.code)
    await studio.outbox.try_announce(image)
    return Reject(f"{error.code}: {error.detail}") if error.code == moves.WORKER_LOST else Done()


async def _claimed(command: GenerateImage, studio: Studio) -> Image:
    move = partial(
        moves.claim,
        lease=studio.lease(),
        now=studio.clock.settled(),
        deadline=timedelta(seconds=studio.settings.generation_deadline),
    )
    try:
        return await studio.move(images.image_id(command.id), move)
    except NotFound:
        if not isinstance(command.data, GenerationRequest):
            raise
        await _record(command, command.data, studio)
        return await studio.move(command.id, move)


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


async def _not_for_us(image_id: str, refused: Refused, studio: Studio) -> Outcome:
    if refused.code == "leased":
        # giving it back would make it go round and round: reconcile looks after it
        log.info("another worker has it; dropped")
        return Done()
    image = await persist(lambda: studio.store.get(image_id))
    if image is None:
        return Done()
    if refused.code == "too_early" and image.not_before is not None:
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
        await _remove_files(image, studio)
        return Done()
    except asyncio.CancelledError:
        await _give_back(image, studio)
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
        return await _failed(image, error, studio)
    except Unavailable as error:  # of the media: a full disk is not the image's failure
        await _remove_files(image, studio)
        return await _again(image, error, studio.settings.retry_delays[0], counts=False, studio=studio)
    studio.circuit.succeeded()
    return await _complete(image, picture, studio), 0


async def _under_lease(image: Image, studio: Studio) -> Picture:
    try:
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(_keep_lease(image, studio))
            teller = ProgressTeller(image, studio.outbox, studio.clock)
            telling = group.create_task(teller.run())
            try:
                await _tell_started(image, studio)
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
        await change(studio.store, image.id, partial(moves.renew, lease=studio.lease(), attempt=image.attempts))
    except (Refused, NotFound) as error:
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
    await studio.media.put(picture.image_file, content)
    await studio.media.put(picture.thumbnail, checked.thumbnail)
    return picture


async def _complete(image: Image, picture: Picture, studio: Studio) -> Image:
    """After the files, the record: it never points at nothing."""
    move = partial(
        moves.complete, lease=studio.lease(), attempt=image.attempts, picture=picture, now=studio.clock.now()
    )
    completed = await _ours(studio.move(image.id, move, known=image))
    metrics.painting.observe(picture.generation_time)
    log.info("completed in %.2f s, %d bytes", picture.generation_time, picture.file_size)
    return completed


async def _failed(image: Image, error: InferenceError, studio: Studio) -> tuple[Image, float]:
    """What the inference service's failure means for the image: the table of the design, section 2."""
    delays = studio.settings.retry_delays
    match error:
        case Unreachable():
            return await _again(image, error, delays[0], counts=False, studio=studio)
        case Transient(retry_after_s=asked):
            delay_s = asked if asked is not None else delays[min(image.failures, len(delays) - 1)]
            return await _again(image, error, delay_s, counts=True, studio=studio)
        case BadImage() if image.error is None or image.error.code != BadImage.code:
            return await _again(image, error, delays[0], counts=False, studio=studio)
        case _:
            return await _fail(image, error, studio), 0


async def _again(
    image: Image, error: ServiceError, delay_s: float, *, counts: bool, studio: Studio
) -> tuple[Image, float]:
    """Back to the queue; the command waits in the broker, no slot is held here."""
    now = studio.clock.settled()
    move = partial(
        moves.retry,
        lease=studio.lease(),
        attempt=image.attempts,
        error=Failure(code=error.code, detail=error.detail),
        not_before=now + timedelta(seconds=delay_s),
        counts=counts,
        now=now,
    )
    after = await _ours(studio.move(image.id, move))
    log.info("%s, again in %g s: %s", after.status, delay_s, error.detail)
    return after, delay_s


async def _fail(image: Image, error: InferenceError, studio: Studio) -> Image:
    move = partial(
        moves.fail,
        lease=studio.lease(),
        attempt=image.attempts,
        error=Failure(code=error.code, detail=error.detail),
        now=studio.clock.now(),
    )
    log.warning("failed: %s", error.detail)
    return await _ours(studio.move(image.id, move))


async def _ours(moved: Awaitable[Image]) -> Image:
    try:
        return await moved
    except (Refused, NotFound) as error:
        raise LeaseLost(error.detail) from error


async def _remove_files(image: Image, studio: Studio) -> None:
    """What this attempt may have written; no other attempt writes under its names."""
    try:
        await studio.media.remove(images.attempt_keys(image))
    except Unavailable as error:
        log.warning("files left for the sweep: %s", error)


async def _give_back(image: Image, studio: Studio) -> None:
    """This process stops: the image goes back to the queue with no failure counted, the message to the broker."""
    move = partial(moves.give_back, lease=studio.lease(), attempt=image.attempts, now=studio.clock.settled())
    try:
        async with asyncio.timeout(GIVE_BACK_S):
            await change(studio.store, image.id, move)
            await _remove_files(image, studio)
        log.info("given back")
    except (TimeoutError, ServiceError) as error:
        log.info("not given back: %s", error)
