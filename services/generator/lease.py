"""The lease that a worker holds on an image while it paints it.

A worker renews its lease at each third of its length. Every write of the worker names the lease, and is refused once
the lease is no longer on the record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from common.domain import transitions
from common.domain.errors import InvalidTransition, NotFound, Unavailable
from common.domain.images import Image, Status
from common.store.port import change
from services.generator.context import GenerationContext, LeaseLost

log = logging.getLogger(__name__)


@contextmanager
def lease_required() -> Iterator[None]:
    """Raise LeaseLost if the record refuses a write in the body."""
    try:
        yield
    except NotFound as error:
        raise LeaseLost(error.detail, is_ended=True) from error
    except InvalidTransition as error:
        raise LeaseLost(error.detail, is_ended=error.status in {Status.CANCELLED, Status.FAILED}) from error


async def keep_lease(image: Image, context: GenerationContext) -> None:
    """Renew the lease until cancelled.

    Raises:
        LeaseLost: an event or a renewal says that the image is no longer this worker's.
    """
    aborted = context.abort_signals.setdefault(image.id, asyncio.Event())
    try:
        while True:
            try:
                async with asyncio.timeout(context.settings.lease / 3):
                    await aborted.wait()
            except TimeoutError:
                await _renew(image, context)
            else:
                raise LeaseLost("the image was cancelled or deleted", is_ended=True)
    finally:
        context.abort_signals.pop(image.id, None)


async def _renew(image: Image, context: GenerationContext) -> None:
    renewal = partial(transitions.renew, lease=context.lease_of(image), attempt=image.attempts)
    try:
        with lease_required():
            await change(context.store, image.id, renewal)
    except Unavailable as error:
        log.warning("lease not renewed: %s", error)
