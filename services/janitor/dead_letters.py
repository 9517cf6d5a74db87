"""Handling of dead letters: the image of each is failed."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from common.bus.handling import MAX_BODY, one_line
from common.bus.port import DeadLetter, Done, Outcome, Retry
from common.domain import images, transitions
from common.domain.errors import Forbidden, Invalid, InvalidTransition, NotFound, Unavailable, Unreadable
from common.domain.images import Failure, Image, Status
from common.domain.owners import parse_owner
from common.domain.texts import is_code
from common.domain.views import FailureView
from common.messages import Command, ImageChanged, RequestRefused, Tick, decode
from common.runtime.logs import log_context
from common.store.port import change
from services.janitor.context import SOURCE, JanitorContext

log = logging.getLogger(__name__)

DROP_WINDOW = timedelta(minutes=5)  # a dead letter that is not found later was dropped by an operator or the limit
UNDELIVERABLE = "undeliverable"  # the failure code for a reason that names no code


@dataclass(frozen=True, slots=True)
class _Request:
    """The fields of an `image.generate` command; `is_valid` is false if the rest of it does not parse."""

    image_id: str
    source: str
    owner: str
    is_valid: bool


async def fail_dead_letter(letter: Command | Tick | DeadLetter, *, context: JanitorContext) -> Outcome:
    """Fail the image of a dead letter, unless a worker holds it with a live lease: then that worker decides.

    A letter without a readable id, source and owner changes nothing: its image, if it has one, fails by its deadline.
    A dead letter whose image ended well all the same is dropped.
    """
    if not isinstance(letter, DeadLetter):
        return Done()
    log.warning("dead letter from %s: %s", letter.queue, one_line(letter.reason))
    request = _request(letter.body)
    if request is None:
        return Done()
    code = letter.reason.partition(":")[0]
    failure = Failure(code=code if is_code(code) else UNDELIVERABLE, detail=letter.reason)
    died_at = _died_at(letter, context)
    with log_context(request.image_id):
        try:
            failed = await _fail(request, failure, context.at(died_at).earliest(), context)
            await context.outbox.publish_pending(failed)
        except InvalidTransition as invalid:
            log.info("its image is unchanged: %s", invalid)
            return await _drop_if_ended_well(letter, request.image_id, context)
        except (Forbidden, Unreadable) as refusal:
            log.info("its image is unchanged: %s", refusal)
        except NotFound:
            await _publish_refusal(request, failure, died_at, context)
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


def _request(body: bytes) -> _Request | None:
    """The request in the body of a dead letter; None if it has no readable sender or image, or is another message."""
    if len(body) > MAX_BODY:
        return None
    try:
        found = json.loads(body)
        if not isinstance(found, dict) or found.get("type") != "image.generate":
            return None
        image_id, owner = images.parse_image_id(str(found.get("id"))), parse_owner(found.get("owner"))
    except (ValueError, RecursionError, Invalid):
        return None
    return _Request(image_id, source=str(found.get("source")), owner=owner, is_valid=_is_valid(body))


def _is_valid(body: bytes) -> bool:
    try:
        decode(body)
    except Invalid:
        return False
    return True


def _died_at(letter: DeadLetter, context: JanitorContext) -> datetime:
    """When it became a dead letter; now if its time cannot be true."""
    now, died_at = context.clock.now(), letter.died_at
    if died_at is None or died_at.tzinfo is None:
        return now
    return died_at if abs(now - died_at) < timedelta(seconds=context.settings.tombstone_age) else now


async def _fail(request: _Request, failure: Failure, now: datetime, context: JanitorContext) -> Image:
    def failed(image: Image) -> Image:
        # a record was made of a valid request: a malformed one with its id is not the one that made it
        if not request.is_valid or not image.is_from(source=request.source, owner=request.owner):
            raise Forbidden("the record was not made of this request")
        return transitions.fail(image, error=failure, now=now)

    return await change(context.store, request.image_id, failed)


async def _publish_refusal(request: _Request, failure: Failure, time: datetime, context: JanitorContext) -> None:
    """Publish `image.failed` to the owner of a request that has no record."""
    error = FailureView(code=failure.code, detail=failure.detail)
    await context.bus.publish(
        ImageChanged(
            id=f"{request.image_id}.0",
            source=SOURCE,
            type="image.failed",
            subject=request.image_id,
            time=time,
            owner=request.owner,
            revision=0,
            attempt=0,
            data=RequestRefused(id=request.image_id, error=error),
        )
    )
