"""Handling of dead letters: the image of each is failed."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta
from functools import partial

from common.bus.port import DeadLetter, Done, Outcome, Retry
from common.domain import images, transitions
from common.domain.errors import Invalid, InvalidTransition, NotFound, Unavailable
from common.domain.images import Failure, Status
from common.domain.views import FailureView
from common.messages import Command, ImageChanged, RequestRefused, Tick
from common.runtime.logs import log_context
from common.store.port import change
from services.janitor.context import SOURCE, JanitorContext

log = logging.getLogger(__name__)

DROP_WINDOW = timedelta(minutes=5)  # a dead letter that is not found later was dropped by an operator or the limit
UNDELIVERABLE = "undeliverable"  # the failure code for a reason that names no code


async def fail_dead_letter(letter: Command | Tick | DeadLetter, *, context: JanitorContext) -> Outcome:
    """Fail the image of a dead letter, unless a worker holds it with a live lease: then that worker decides.

    A dead letter whose image ended well all the same is dropped.
    """
    if not isinstance(letter, DeadLetter):
        return Done()
    log.warning("dead letter from %s: %s", letter.queue, letter.reason)
    command = _generate_command(letter.body)
    try:
        image_id = images.parse_image_id(str(command.get("id") or command.get("subject")))
    except Invalid:
        return Done()
    failure = Failure(code=_failure_code(letter.reason), detail=letter.reason[:300])
    now = context.at(letter.died_at).earliest() if letter.died_at else context.earliest()
    with log_context(image_id):
        try:
            failed = await change(context.store, image_id, partial(transitions.fail, error=failure, now=now))
            await context.outbox.publish_pending(failed)
        except InvalidTransition as invalid:
            log.info("its image is unchanged: %s", invalid)
            return await _drop_if_ended_well(letter, image_id, context)
        except NotFound:
            await _publish_refusal(image_id, command, failure, letter.died_at or now, context)
        except Unavailable:
            return Retry(context.settings.retry_delays[0])
    return Done()


async def _drop_if_ended_well(letter: DeadLetter, image_id: str, context: JanitorContext) -> Outcome:
    """Drop it if its image was completed, cancelled or deleted; look again later while a worker has the image."""
    again = Retry(context.settings.retry_delays[0])
    try:
        image = await context.store.get(image_id)
        if image is None or image.status is Status.FAILED:
            return Done()
        if not image.status.is_final:
            return again
        is_dropped = await context.bus.drop(letter.id)  # False during a listing, which holds all dead letters
    except Unavailable:
        return again
    age = context.clock.now() - letter.died_at if letter.died_at else DROP_WINDOW
    if not is_dropped and abs(age) < DROP_WINDOW:
        return again
    log.info("dropped the dead letter %s: its image is %s", letter.id, image.status)
    return Done()


def _generate_command(body: bytes) -> dict[str, object]:
    """The fields of an `image.generate` command, not validated; empty for any other message."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and found.get("type") == "image.generate" else {}


def _failure_code(reason: str) -> str:
    code = reason.partition(":")[0]
    return code if code.isidentifier() else UNDELIVERABLE


async def _publish_refusal(
    image_id: str, command: dict[str, object], failure: Failure, time: datetime, context: JanitorContext
) -> None:
    """Publish `image.failed` to the owner of a request that has no record."""
    owner = command.get("owner")
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
            data=RequestRefused(id=image_id, error=FailureView(code=failure.code, detail=failure.detail)),
        )
    )
