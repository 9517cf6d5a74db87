"""Handling of one `image.cancel` command of another service."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial

from common.bus.port import DeadLetter, Done, Outcome, Reject, Retry
from common.domain import images, transitions
from common.domain.errors import Invalid, InvalidTransition, NotFound, Unavailable
from common.messages import CancelImage, Command, Tick
from common.runtime.logs import log_context
from common.store.port import change
from services.janitor.context import JanitorContext

log = logging.getLogger(__name__)


async def cancel(command: Command | Tick | DeadLetter, *, context: JanitorContext) -> Outcome:
    """Cancel the image that the command names; retries for a while if its request has not arrived yet."""
    if not isinstance(command, CancelImage):
        return Done()
    with log_context(command.subject):
        again = Retry(context.settings.retry_delays[0])
        try:
            image_id = images.parse_image_id(command.subject)
            cancelled = await change(context.store, image_id, partial(transitions.cancel, now=context.clock.now()))
        except Invalid as error:
            return Reject(f"{error.code}: {error.detail}")
        except InvalidTransition as invalid:
            log.info("not cancelled: %s", invalid)
            return Done()
        except NotFound:
            max_age = timedelta(seconds=context.settings.generation_deadline)
            return again if context.earliest() - command.time < max_age else Done()
        except Unavailable:
            return again
        log.info("cancelled")
        await context.outbox.try_publish_pending(cancelled)
        return Done()
