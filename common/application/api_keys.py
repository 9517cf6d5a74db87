"""API keys, stored as hashes in the entries of the store.

    darkroom_<id>_<secret>      the id finds the entry and names the key in lists; the secret is 192 random bits

A plain SHA-256 is enough: 192 random bits cannot be guessed, so a slow hash adds nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from common.domain.errors import Invalid
from common.domain.owners import parse_owner
from common.domain.views import iso
from common.domain.webhooks import parse_webhook
from common.runtime.clock import Clock
from common.store.port import Entry, Store

log = logging.getLogger(__name__)

KIND: Final = "key"
PREFIX: Final = "darkroom_"  # lets scanners for leaked secrets recognise a key
_FORM: Final = re.compile(rf"{PREFIX}([0-9a-f]{{12}})_([0-9a-f]{{48}})")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """The stored data of a key, without its secret. `webhook` is for its orders that name none."""

    id: str
    owner: str
    name: str
    created_at: datetime
    expires_at: datetime | None = None
    webhook: str | None = field(default=None, repr=False)

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


def looks_like_key(text: str) -> bool:
    return text.startswith(PREFIX)


@dataclass(frozen=True, slots=True)
class ApiKeyStore:
    """The keys in the store. Nothing is cached, so a revoked key is rejected from the next request on."""

    store: Store
    clock: Clock

    async def create(
        self, owner: str, *, name: str = "", expires_at: datetime | None = None, webhook: str | None = None
    ) -> str:
        """Create a key and return its text, which cannot be read again.

        Raises:
            Invalid: the owner's name or the address of the webhook is not valid.
        """
        parse_owner(owner)
        key_id, secret = secrets.token_hex(6), secrets.token_hex(24)
        data = {"owner": owner, "name": name, "hash": _hash(secret), "created_at": iso(self.clock.now())}
        if expires_at is not None:
            data["expires_at"] = iso(expires_at)
        if webhook is not None:
            data["webhook"] = parse_webhook(webhook)
        # not Entry.expires_at, which removes the entry: an expired key is still listed
        if not await self.store.put_entry(Entry(KIND, key_id, 1, data)):
            # the id is taken: one in 2^48
            return await self.create(owner, name=name, expires_at=expires_at, webhook=webhook)
        return f"{PREFIX}{key_id}_{secret}"

    async def find(self, text: str) -> ApiKey | None:
        """The key with this text; None if it is wrong, revoked or expired."""
        found = _FORM.fullmatch(text)
        entry = await self.store.get_entry(KIND, found[1]) if found else None
        if found is None or entry is None or not hmac.compare_digest(str(entry.data.get("hash")), _hash(found[2])):
            return None
        key = _readable_key(entry)
        return None if key is None or key.has_expired(self.clock.now()) else key

    async def is_valid(self, key_id: str) -> bool:
        """Whether a key that was found before is neither revoked nor expired."""
        entry = await self.store.get_entry(KIND, key_id)
        key = _readable_key(entry) if entry is not None else None
        return key is not None and not key.has_expired(self.clock.now())

    async def list_all(self) -> list[ApiKey]:
        """All keys, oldest first, including expired ones; an entry that is damaged is left out."""
        found = [key for entry in await self.store.list_entries(KIND) if (key := _readable_key(entry))]
        return sorted(found, key=lambda key: key.created_at)

    async def revoke(self, key_id: str) -> bool:
        """Delete the key; False if there is no key with this id."""
        return await self.store.remove_entry(KIND, key_id)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _readable_key(entry: Entry) -> ApiKey | None:
    """The key of an entry; None if it is damaged, as a key that nobody can use."""
    try:
        return _key(entry)
    except (KeyError, TypeError, ValueError, Invalid) as error:
        log.warning("the key %s cannot be read: %r", entry.key, error)
        return None


def _key(entry: Entry) -> ApiKey:
    data = entry.data
    expires_at, webhook = data.get("expires_at"), data.get("webhook")
    return ApiKey(
        id=entry.key,
        owner=parse_owner(data["owner"]),
        name=str(data["name"]),
        created_at=_time(data["created_at"]),
        expires_at=_time(expires_at) if expires_at else None,
        webhook=None if webhook is None else parse_webhook(webhook),
    )


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("a time without a zone")
    return found
