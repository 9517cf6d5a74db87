"""The stream of one owner's events to one client, resumed from any cursor without a loss.

hello (or gap) ─▶ the events since the cursor ─▶ live events
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from common.domain.errors import CursorGone
from services.api.events.client import Client
from services.api.events.live import LiveEvents

# makes the first frame: its kind, the cursor that it carries
SnapshotFrame = Callable[[Literal["hello", "gap"], str], Awaitable[str]]


class EventStream:
    """Sends hello, then what the client has missed, then live events."""

    def __init__(self, live: LiveEvents, client: Client, *, owner: str, snapshot: SnapshotFrame) -> None:
        self._live = live
        self._client = client
        self._owner = owner
        self._snapshot = snapshot

    async def run(self, after: str | None) -> None:
        """Send events from now on, or those after a cursor; never returns."""
        if after is None:
            await self._start("hello")
            return
        try:
            await self.resume(after)
        except CursorGone:
            await self._start("gap")

    async def _start(self, kind: Literal["hello", "gap"]) -> None:
        async with self._live.subscribed(self._owner, self._client.on_event):
            await self._greet(kind, self._live.cursor)
            await self._client.write()

    async def resume(self, after: str) -> None:
        """Hello with the client's own cursor, then each event that it missed exactly once, then live events.

        Raises:
            CursorGone: the log no longer reaches back to the cursor.
        """
        live, greeted = self._live, False
        if live.since(after) is None:
            # the cursor may be ahead of this replica: another one that has read further gave it, and this replica
            # does not know yet which events up there are repeated
            await live.caught_up()
        while not greeted or (missed := live.since(after)) is None:
            if not greeted and live.since(after) is not None:
                await self._greet("hello", after)
                greeted = True
                continue
            async for cursor, event in live.older(after):
                if not greeted:
                    await self._greet("hello", after)
                    greeted = True
                after = cursor
                if event is not None and event.event.owner == self._owner:
                    await self._client.send(event.frame)
        # nothing is awaited between `since` above and `subscribed`: no event is lost or repeated in between
        async with live.subscribed(self._owner, self._client.on_event):
            for event in missed:
                if event.event.owner == self._owner:
                    await self._client.send(event.frame)
            await self._client.write()

    async def _greet(self, kind: Literal["hello", "gap"], cursor: str) -> None:
        await self._client.send(await self._snapshot(kind, cursor))
