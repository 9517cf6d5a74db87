"""What the janitor does at once, beside its timers: cancels by command, and fails the images of dead letters."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta
from functools import partial

from common.bus.port import DeadLetter, Done, Outcome, Reject, Retry
from common.domain import images, transitions
from common.domain.errors import Invalid, InvalidTransition, NotFound, Unavailable
from common.domain.images import Failure, Status
from common.domain.views import FailureView
from common.messages import CancelImage, Command, ImageChanged, OrderRefused, Tick
from common.runtime.logs import about
from common.store.port import change
from services.janitor.context import SOURCE, JanitorContext

log = logging.getLogger(__name__)

CODE = "undeliverable"
DROPPED_WITHIN = timedelta(minutes=5)  # of its death; later the letter is gone, by an operator or the queue's limit


async def cancel(command: Command | Tick | DeadLetter, *, context: JanitorContext) -> Outcome:
    """Cancel the image that the command names; an order that has not arrived yet is waited for."""
    if not isinstance(command, CancelImage):
        return Done()
    with about(command.subject):
        again = Retry(context.settings.retry_delays[0])
        try:
            image_id = images.image_id(command.subject)
            cancelled = await change(context.store, image_id, partial(transitions.cancel, now=context.clock.now()))
        except Invalid as error:
            return Reject(f"{error.code}: {error.detail}")
        except InvalidTransition as invalid:
            log.info("not cancelled: %s", invalid)
            return Done()
        except NotFound:
            patience = timedelta(seconds=context.settings.generation_deadline)
            return again if context.earliest() - command.time < patience else Done()
        except Unavailable:
            return again
        log.info("cancelled")
        await context.outbox.try_publish_pending(cancelled)
        return Done()


async def fail_dead_letter(letter: Command | Tick | DeadLetter, *, context: JanitorContext) -> Outcome:
    """Fail the image of a dead letter, unless a live lease holds it: that worker has the last word.

    A letter whose image ended well all the same says nothing true, and is dropped.
    """
    if not isinstance(letter, DeadLetter):
        return Done()
    log.warning("dead letter from %s: %s", letter.queue, letter.reason)
    order = _order(letter.body)
    try:
        image_id = images.image_id(str(order.get("id") or order.get("subject")))
    except Invalid:
        return Done()
    failure = Failure(code=_code(letter.reason), detail=letter.reason[:300])
    now = context.at(letter.died_at).earliest() if letter.died_at else context.earliest()
    with about(image_id):
        try:
            failed = await change(context.store, image_id, partial(transitions.fail, error=failure, now=now))
            await context.outbox.publish_pending(failed)
        except InvalidTransition as invalid:
            log.info("its image is left as it is: %s", invalid)
            return await _drop_if_untrue(letter, image_id, context)
        except NotFound:
            await _tell_refused(image_id, order, failure, letter.died_at or now, context)
        except Unavailable:
            return Retry(context.settings.retry_delays[0])
    return Done()


async def _drop_if_untrue(letter: DeadLetter, image_id: str, context: JanitorContext) -> Outcome:
    """Drop the letter of an image that needs it no more; look again later while a worker has the image."""
    again = Retry(context.settings.retry_delays[0])
    try:
        image = await context.store.get(image_id)
        if image is None or image.status is Status.FAILED:
            return Done()
        if not image.status.is_final:
            return again
        # a listing holds all letters for a moment: then this one is found later
        is_dropped = await context.bus.drop(letter.id)
    except Unavailable:
        return again
    age = context.clock.now() - letter.died_at if letter.died_at else DROPPED_WITHIN
    if not is_dropped and abs(age) < DROPPED_WITHIN:
        return again
    log.info("dropped the dead letter %s: its image is %s", letter.id, image.status)
    return Done()


def _order(body: bytes) -> dict[str, object]:
    """As much of a command as can be read; not every dead letter is one."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and found.get("type") == "image.generate" else {}


def _code(reason: str) -> str:
    code = reason.partition(":")[0]
    return code if code.isidentifier() else CODE


async def _tell_refused(
    image_id: str, order: dict[str, object], failure: Failure, time: datetime, context: JanitorContext
) -> None:
    """An order that never became a record is told to its owner all the same."""
    owner = order.get("owner")
    if not isinstance(owner, str) or not owner:
        return
    await context.bus.publish(
        ImageChanged(
            id=f"{image_id}.0",
            source=SOURCE,
            type="image.failed",
            subject=image_id,
            time=time,
            owner=owner,
            revision=0,
            attempt=0,
            data=OrderRefused(id=image_id, error=FailureView(code=failure.code, detail=failure.detail)),
        )
    )
