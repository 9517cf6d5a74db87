"""The links of each image on record: one entry of the store for each image, changed by compare-and-swap.

The entry names owner and time of the image, so that it never counts for another image that has got the same id. What
ends an image ends its links, because the record is read at each visit; the entry itself expires with its last link.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from common.domain.errors import LimitReached, NotFound
from common.domain.images import Image
from common.domain.views import iso
from common.runtime.clock import Clock
from common.store.port import Entry, Store, back_off
from services.api.sharing.tokens import new_link_id

KIND: Final = "shares"
KEPT_ON: Final = timedelta(minutes=5)  # longer than a racing writer takes: a new entry would have its revision again
MAX_LINKS: Final = 20  # of one image at the same time


@dataclass(frozen=True, slots=True)
class ShareLink:
    id: str
    created_at: datetime
    expires_at: datetime
    shows_prompt: bool


class ShareLinks:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def of(self, image: Image) -> list[ShareLink]:
        """The links of the image that have neither expired nor been revoked, oldest first."""
        return self._active(await self._store.get_entry(KIND, image.id), image)

    async def add(self, image: Image, *, lifetime_s: int, shows_prompt: bool) -> ShareLink:
        """
        Raises:
            LimitReached: the image has its number of links already.
        """
        now = self._clock.now().replace(microsecond=0)  # as precise as a token
        link = ShareLink(new_link_id(), now, now + timedelta(seconds=lifetime_s), shows_prompt)

        def added(links: list[ShareLink]) -> list[ShareLink]:
            if len(links) >= MAX_LINKS:
                first_s = (min(each.expires_at for each in links) - self._clock.now()).total_seconds()
                detail = f"this picture has {MAX_LINKS} links already; revoke one"
                raise LimitReached(detail, code="share_limit", retry_after_s=first_s)
            return [*links, link]

        await self._change(image, added)
        return link

    async def revoke(self, image: Image, link_id: str) -> None:
        """
        Raises:
            NotFound: the image has no such link, or not any more.
        """

        def revoked(links: list[ShareLink]) -> list[ShareLink]:
            others = [link for link in links if link.id != link_id]
            if len(others) == len(links):
                raise NotFound("this picture has no such link", code="share_not_found")
            return others

        await self._change(image, revoked)

    async def _change(self, image: Image, change: Callable[[list[ShareLink]], list[ShareLink]]) -> None:
        losses = 0
        while True:
            entry = await self._store.get_entry(KIND, image.id)
            links = change(self._active(entry, image))
            data = {**_identity(image), "links": [_packed(link) for link in links]}
            # without links it is removed at the next tick, and not here: another writer may have added one meanwhile
            expires_at = max((link.expires_at for link in links), default=self._clock.now()) + KEPT_ON
            revision = 1 if entry is None else entry.revision + 1
            if await self._store.put_entry(Entry(KIND, image.id, revision, data, expires_at)):
                return
            losses += 1
            await back_off(losses)

    def _active(self, entry: Entry | None, image: Image) -> list[ShareLink]:
        if entry is None or not _identity(image).items() <= entry.data.items():
            return []
        now = self._clock.now()
        return [link for link in map(_link, entry.data["links"]) if link.expires_at > now]


def _identity(image: Image) -> dict[str, Any]:
    return {"owner": image.owner, "created": iso(image.created_at)}


def _packed(link: ShareLink) -> dict[str, Any]:
    return {
        "id": link.id,
        "created": iso(link.created_at),
        "expires": iso(link.expires_at),
        "prompt": link.shows_prompt,
    }


def _link(data: dict[str, Any]) -> ShareLink:
    created_at, expires_at = (datetime.fromisoformat(data[name]) for name in ("created", "expires"))
    return ShareLink(data["id"], created_at, expires_at, data["prompt"])
