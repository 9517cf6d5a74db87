"""The zip files that are prepared, on record.

Each is an entry of the store with up to 500 ids, for five minutes. So the number of an owner is bounded: another entry
counts them, changed by compare-and-swap. A prepared zip file counts until its URL expires, downloaded or not.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from common.domain.errors import LimitReached
from common.domain.views import iso
from common.runtime.clock import Clock
from common.store.port import Entry, Store, back_off

KIND: Final = "archive"
COUNTS: Final = "archives"
LIFETIME_S: Final = 300
MAX_PREPARED: Final = 60  # of one owner at the same time: a megabyte of ids
_KEPT_ON: Final = timedelta(minutes=5)  # longer than a racing writer takes: a new entry would have its revision again


@dataclass(frozen=True, slots=True)
class PreparedArchives:
    store: Store
    clock: Clock

    async def add(self, owner: str, ids: list[str]) -> str:
        """The secret of a new one.

        Raises:
            LimitReached: the owner has as many as an owner may have.
        """
        expires_at = self.clock.now() + timedelta(seconds=LIFETIME_S)
        await self._count(owner, expires_at)
        secret = secrets.token_urlsafe(32)
        await self.store.put_entry(Entry(KIND, _hash(secret), 1, {"owner": owner, "ids": ids}, expires_at))
        return secret

    async def get(self, secret: str) -> tuple[str, list[str]] | None:
        """The owner and the ids of one; None if it has expired or never existed."""
        entry = await self.store.get_entry(KIND, _hash(secret))
        if entry is None or entry.expires_at is None or entry.expires_at <= self.clock.now():
            return None
        return str(entry.data["owner"]), [str(image_id) for image_id in entry.data["ids"]]

    async def _count(self, owner: str, expires_at: datetime) -> None:
        losses = 0
        while True:
            entry, now = await self.store.get_entry(COUNTS, _hash(owner)), self.clock.now()
            ends = [datetime.fromisoformat(end) for end in entry.data["ends"]] if entry is not None else []
            valid = [end for end in ends if end > now]
            if len(valid) >= MAX_PREPARED:
                detail = f"{MAX_PREPARED} zip files are prepared already; each counts for {LIFETIME_S // 60} minutes"
                first_s = (min(valid) - now).total_seconds()
                raise LimitReached(detail, code="archive_limit", retry_after_s=first_s)
            data = {"ends": [iso(end) for end in (*valid, expires_at)]}
            revision = 1 if entry is None else entry.revision + 1
            if await self.store.put_entry(Entry(COUNTS, _hash(owner), revision, data, expires_at + _KEPT_ON)):
                return
            losses += 1
            await back_off(losses)


def _hash(text: str) -> str:
    """A reader of the store does not learn the secret from it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
