"""Delayed writes to the records: many confirmations in one write.

    add ──▶ wait a moment for more ──▶ read the records ──▶ one write of those that still change

Often nothing is left to write: a record whose command was claimed meanwhile does not need `sent_at`. A confirmation
that is lost with its process does no harm: the janitor publishes again, and the duplicate is recognised.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from common.domain.errors import InvalidTransition, NotFound, Unavailable, Unreadable
from common.domain.images import Image
from common.runtime.logs import image_fields
from common.store.port import Store, Transition, change

log = logging.getLogger(__name__)

WRITE_DELAY_S: Final = 0.2  # far below the age at which the janitor publishes again (10 s)
MAX_PENDING: Final = 1000  # beyond it, a transition is written at once


class WriteBehind:
    """`run` is the task that writes; it ends after `close`, when everything that the store accepts is written."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pending: dict[str, Transition] = {}
        self._wakeup = asyncio.Event()
        self._closing = asyncio.Event()

    async def run(self) -> None:
        while self._pending or not self._closing.is_set():
            await self._wakeup.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(WRITE_DELAY_S):
                    await self._closing.wait()
            await self._write()

    def close(self) -> None:
        """Let `run` write what is pending and end; nothing may be added afterwards."""
        self._closing.set()
        self._wakeup.set()

    async def add(self, image_id: str, transition: Transition) -> None:
        """Apply the transition to the record soon; it replaces a pending one of the same image.

        Raises:
            NotFound, Unavailable: only if so many are pending that this one is written at once.
        """
        if len(self._pending) >= MAX_PENDING:
            await change(self._store, image_id, transition)
            return
        self._pending[image_id] = transition
        self._wakeup.set()

    async def _write(self) -> None:
        transitions, self._pending = self._pending, {}
        if not self._closing.is_set():
            self._wakeup.clear()
        try:
            await self._write_all(transitions)
        except Unavailable as error:
            log.warning("%d confirmations are not recorded, the janitor publishes again: %s", len(transitions), error)

    async def _write_all(self, transitions: dict[str, Transition]) -> None:
        records = await self._store.get_several(transitions)
        wanted: list[Image] = []
        for image_id, before in records.items():
            with _skipped(image_id):
                after = transitions[image_id](before)
                if after is not before:
                    wanted.append(after)
        written: set[str] = set()
        with _skipped("some of them"):  # then each by itself
            written = await self._store.replace_several(wanted)
        for image in wanted:
            if image.id not in written:  # another writer was faster
                with _skipped(image.id):
                    await change(self._store, image.id, transitions[image.id])


@contextmanager
def _skipped(image_id: str) -> Iterator[None]:
    """Ignore an error of one record: the others are written, and the task that writes goes on."""
    try:
        yield
    except (NotFound, InvalidTransition):
        pass
    except Unavailable as error:
        if not isinstance(error, Unreadable):
            raise
    except Exception:
        detail = "the confirmation of image %s is not recorded, the janitor publishes again"
        log.exception(detail, image_id, extra=image_fields(image_id))
