"""Handling of one `image.generate` command: claim, paint, store, publish.

    a slot of a back end ─▶ claim ─▶ publish started ∥ paint ─▶ the slot is free, the message acknowledged
                                                         │        ─▶ check ─▶ file ∥ thumbnail ─▶ complete the record
                                                         │                                    │  ─▶ publish completed
                                                         └─ error: queued again, or failed    └─ lease lost: its files
                                                                                                 are removed

The process may die after any step; the next worker, or the janitor, continues from the record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from typing import Final

from common.application.fleet.validation import NO_GENERATOR
from common.bus.handling import cancel_requests
from common.bus.port import Done, Outcome, Reject, Retry
from common.domain import images, transitions
from common.domain.errors import (
    InferenceError,
    Invalid,
    InvalidTransition,
    NotFound,
    ServiceError,
    Unavailable,
)
from common.domain.images import Failure, Image, Picture
from common.messages import GenerateImage
from common.runtime import metrics
from common.runtime.logs import log_context
from common.runtime.tracing.spans import span
from common.runtime.uncancelled import run_to_end
from services.generator.backends.backends import NoPlace
from services.generator.backends.choice import Needs
from services.generator.backends.finishing import HeldSlot, held
from services.generator.claims import claim, claimable
from services.generator.context import GenerationContext, LeaseLost, retry_while_unavailable
from services.generator.lease import keep_lease
from services.generator.outcomes import (
    complete,
    fail_attempt,
    fail_or_retry,
    give_back,
    remove_files,
    retry,
    set_waiting,
)
from services.generator.pictures import finish
from services.generator.progress import ProgressPublisher
from services.generator.telemetry import span_of_inference

log = logging.getLogger(__name__)

_REFUSALS: Final = (NotFound, Invalid, InvalidTransition)


async def generate(command: GenerateImage, context: GenerationContext) -> Outcome:
    """Generate the image of a command. The command may be delivered again, to this worker or to another one."""
    with log_context(command.id, command.traceparent):
        try:
            with context.finishing.start():
                image = await claimable(command, context)
        except _REFUSALS as refusal:
            return await _after_refusal(command.id, refusal, context)
        needs = Needs(image.model, image.parameters.sampler, first=image.last_backend)
        async with held(context.backends.place(needs)) as (slot, place):
            if isinstance(place, NoPlace):
                return await _without_place(image, place, context)
            try:
                with context.finishing.start():
                    claimed = await claim(image, place.name, context)
            except _REFUSALS as refusal:
                return await _after_refusal(command.id, refusal, context)
            if claimed.status.is_final:
                return await _after_failed_claim(claimed, context)
            return await _attempt(claimed, context, slot)


async def _without_place(image: Image, place: NoPlace, context: GenerationContext) -> Outcome:
    match place:
        case NoPlace.ABSENT:
            return await _after_missing_model(image, context)
        case NoPlace.BUSY:
            return Retry(context.settings.retry_delays[0])
        case NoPlace.STOPPING:
            return Retry(0)


async def _after_refusal(
    image_id: str, refusal: NotFound | Invalid | InvalidTransition, context: GenerationContext
) -> Outcome:
    match refusal:
        case NotFound():
            return Reject("unknown_image: it has no record")
        case Invalid():
            return Reject(f"{refusal.code}: {refusal.detail}")
    return await _after_refused_claim(image_id, refusal, context)


async def _after_refused_claim(image_id: str, refusal: InvalidTransition, context: GenerationContext) -> Outcome:
    if refusal.code == "leased":
        # a retry would be delivered again and again while the other worker lives; the janitor watches its lease
        log.info("skipped: another worker holds it")
        return Done()
    if refusal.code == "waiting":
        log.info("skipped: it waits for its turn, which sends another command")
        return Done()
    image = await retry_while_unavailable(lambda: context.store.get(image_id))
    if image is None:
        return Done()
    if refusal.code == "too_early" and image.not_before is not None:
        return Retry((image.not_before - context.clock.stable_now()).total_seconds())
    log.info("skipped: it is %s", image.status)
    await context.outbox.try_publish_pending(image)
    return Done()


async def _after_missing_model(image: Image, context: GenerationContext) -> Outcome:
    """The image waits for its next turn, which sends its command to the pool that has the model then."""
    found = await retry_while_unavailable(lambda: context.store.get(image.id))
    pool = context.settings.generator_pool
    if found is None or found.work_pool != pool:
        log.info("skipped: its command was sent to another pool since")
        return Done()
    view = await retry_while_unavailable(lambda: context.fleet.current_for(image.model))
    is_live = view.is_live(image.model)
    reason = f"no back end here can take the model {image.model!r} now" if is_live else NO_GENERATOR
    # else its next turn could lead here again at once: a generator of this pool has the model, or had it
    soon_s = max(context.settings.retry_delays[0], context.backends.back_in_s(image.model))
    delay_s = soon_s if view.pool_of(image.model) == pool else 0.0
    await set_waiting(image, context, delay_s=delay_s, reason=reason)
    return Done()


async def _after_failed_claim(image: Image, context: GenerationContext) -> Outcome:
    """The claim has failed an image that killed its workers; the dead letter keeps its command for an operator."""
    error = image.error or Failure(code=transitions.WORKER_LOST, detail="")
    log.warning("%s: %s", image.status, error.code)
    await context.outbox.try_publish_pending(image)
    return Reject(f"{error.code}: {error.detail}")


async def _attempt(image: Image, context: GenerationContext, slot: HeldSlot) -> Outcome:
    """Paint the image, write the outcome to the record, then publish it."""
    log.info("started at %s, attempt %d", image.last_backend, image.attempts)
    try:
        after, delay_s = await _paint_and_record(image, context, slot)
    except LeaseLost as lost:
        log.info("dropped: %s", lost)
        _count_attempt("lost", image, context)
        if lost.is_ended:
            await context.stop_work(image)
        await remove_files(image, context)
        return Done()
    except asyncio.CancelledError:
        await give_back(image, context, has_message=not slot.is_free)
        raise
    _count_attempt(after.status if after.status.is_final else "retried", image, context)
    await _publish_outcome(after, delay_s, context)
    return Done()


def _count_attempt(outcome: str, image: Image, context: GenerationContext) -> None:
    metrics.attempts.labels(outcome, context.settings.generator_pool, image.last_backend or "").inc()


async def _publish_outcome(after: Image, delay_s: float, context: GenerationContext) -> None:
    try:
        if after.status.is_final:
            await context.outbox.try_publish_pending(after)
        else:
            await context.outbox.try_dispatch(after, delay_s=delay_s)
    except Exception:
        # the record has the outcome: another delivery of the command would change nothing
        log.exception("the outcome was not published, the janitor will publish it")


async def _paint_and_record(image: Image, context: GenerationContext, slot: HeldSlot) -> tuple[Image, float]:
    """Returns the record after this attempt, and the seconds until its next one.

    Every error becomes an outcome, or the command would be delivered again while the lease is still live.
    """
    cancels_before = cancel_requests()
    try:
        return await _outcome_of_painting(image, context, slot)
    except LeaseLost:
        raise
    except asyncio.CancelledError as error:
        if cancel_requests() > cancels_before:
            raise
        unforeseen: BaseException = error  # leaked out of a library
    except Exception as error:  # noqa: BLE001 - the top of a unit of work
        unforeseen = error
    return await fail_attempt(image, unforeseen, context)


async def _outcome_of_painting(image: Image, context: GenerationContext, slot: HeldSlot) -> tuple[Image, float]:
    """The lease is not renewed while the outcome is written: the write names it, and is refused if it was lost."""
    try:
        picture = await _paint_under_lease(image, context, slot)
    except InferenceError as error:
        context.backend_of(image).circuit.record_failure(error)
        return await fail_or_retry(image, error, context)
    except Unavailable as error:  # of the media: a full disk is not a failure of the image
        context.media_pause.record_failure()
        await remove_files(image, context)
        return await retry(image, error, context.settings.retry_delays[0], counts=False, context=context)
    context.backend_of(image).circuit.record_success()
    context.media_pause.record_success()
    return await complete(image, picture, context), 0


async def _paint_under_lease(image: Image, context: GenerationContext, slot: HeldSlot) -> Picture:
    try:
        async with asyncio.TaskGroup() as group:
            progress = ProgressPublisher(image, context.outbox, context.clock)
            background = [
                group.create_task(keep_lease(image, context)),
                group.create_task(progress.run()),
            ]
            # concurrent with the painting; the group waits for it, so `started` precedes the outcome in the event log
            group.create_task(_publish_started(image, context))
            try:
                return await _paint(image, context, progress, slot)
            finally:
                for task in background:
                    task.cancel()
    except BaseExceptionGroup as errors:
        # a TaskGroup wraps even a single error in a group
        raise _cause_of(errors) from None


def _cause_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that decides the outcome: a lost lease before an error that we know, before any other one."""
    return min(_leaves(errors), key=lambda error: [not isinstance(error, kind) for kind in (LeaseLost, ServiceError)])


def _leaves(errors: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _publish_started(image: Image, context: GenerationContext) -> None:
    try:
        await context.outbox.publish_started(image)
    except Unavailable as error:
        log.warning("start not published: %s", error)  # the next event implies it
    except Exception:
        log.exception("start not published")


async def _paint(image: Image, context: GenerationContext, progress: ProgressPublisher, slot: HeldSlot) -> Picture:
    """Paint, check and mark the picture, and store its file and its thumbnail.

    Raises:
        InferenceError: the inference service returned no usable picture.
        Unavailable: the media could not store it.
    """
    started_s, settings, backend = context.clock.monotonic(), context.settings, context.backend_of(image)
    on_preview = progress.on_preview if settings.previews else None
    with span_of_inference(image, backend, records_prompt=settings.trace_prompts):
        generated = await backend.inference.generate(context.job_of(image), progress.on_progress, on_preview)
    async with context.finishing.picture(slot):
        return await _finish(image, generated.content, context, started_s)


async def _finish(image: Image, painted: bytes, context: GenerationContext, started_s: float) -> Picture:
    with span("finish picture"):
        content, checked = await asyncio.to_thread(finish, painted, image, context.settings, context.marker)
    picture = Picture(
        image_file=images.image_key(image, checked.format),
        thumbnail=images.thumbnail_key(image, checked.thumbnail_format),
        format=checked.format,
        file_size=len(content),
        width=checked.width,
        height=checked.height,
        generation_time=round(context.clock.monotonic() - started_s, 3),
    )
    with span("store files"):
        await _store_files({picture.image_file: content, picture.thumbnail: checked.thumbnail}, context)
    return picture


async def _store_files(files: Mapping[str, bytes], context: GenerationContext) -> None:
    """Write the files concurrently, since each waits for the disk.

    Raises the first error after all writes have ended, also if this call is cancelled: the files may be removed next.
    """
    puts = (context.media.put(key, content) for key, content in files.items())
    results = await run_to_end(asyncio.gather(*puts, return_exceptions=True))
    for result in results:
        if isinstance(result, BaseException):
            raise result
