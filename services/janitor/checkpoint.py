"""Raises the checkpoint of store and media at each tick of reconcile."""

from __future__ import annotations

import logging

from common.application.operation.checkpoint import raise_checkpoint
from common.domain.errors import Unavailable
from services.janitor.context import JanitorContext

log = logging.getLogger(__name__)


async def keep_checkpoint(context: JanitorContext) -> None:
    """Raise it, or log once that it cannot be: one of the two was restored from a backup."""
    try:
        difference = await raise_checkpoint(context.store, context.media)
    except Unavailable as error:  # the records are reconciled all the same
        if context.warned.is_new(f"checkpoint {error}"):
            log.warning("the checkpoint of store and media stays as it is: %s", error)
        return
    if difference and context.warned.is_new(difference):
        log.warning("%s. A sweep only reports what differs; `darkroom media --adopt` ends that", difference)
