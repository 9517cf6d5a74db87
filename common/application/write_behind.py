"""What the broker has confirmed is noted on the records a moment later: many in one write, and nobody waits for it.

    sent, told ──▶ wait a moment, for more ──▶ read ──▶ one write of those that still want it

Often nothing is left to write: a record whose command was taken meanwhile need not say that it was sent. A note that
dies with its process is no loss: the janitor sends again what is not noted, and a repeat is known as one.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from common.domain.errors import InvalidTransition, NotFound, Unavailable
from common.store.port import Store, Transition, change

log = logging.getLogger(__name__)

WRITE_DELAY_S: Final = 0.2  # far below the grace after which the janitor sends again (10 s)
MAX_PENDING: Final = 1000  # that wait; who comes then writes at once


class WriteBehind:
    """`run` is the task that writes; it ends after `close`, once all is written that the store takes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, Transition] = {}
        self._news = asyncio.Event()
        self._closing = asyncio.Event()

    async def run(self) -> None:
        while self._waiting or not self._closing.is_set():
            await self._news.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(WRITE_DELAY_S):
                    await self._closing.wait()
            await self._write()

    def close(self) -> None:
        """Nothing more is taken."""
        self._closing.set()
        self._news.set()

    async def add(self, image_id: str, transition: Transition) -> None:
        """Apply the move to the record soon. A later note of the same image stands for an earlier one.

        Raises:
            NotFound, Unavailable: only where so much waits that this one is written at once.
        """
        if len(self._waiting) >= MAX_PENDING:
            await change(self._store, image_id, transition)
            return
        self._waiting[image_id] = transition
        self._news.set()

    async def _write(self) -> None:
        transitions, self._waiting = self._waiting, {}
        if not self._closing.is_set():
            self._news.clear()
        try:
            records = await self._store.get_several(transitions)
            wanted = [after for id_, before in records.items() if (after := transitions[id_](before)) is not before]
            written = await self._store.replace_several(wanted)
            for image in wanted:
                if image.id not in written:  # another writer was faster
                    with suppress(NotFound, InvalidTransition):
                        await change(self._store, image.id, transitions[image.id])
        except Unavailable as error:
            log.warning("%d notes are lost, the janitor sends again what they were of: %s", len(transitions), error)
