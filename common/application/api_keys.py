"""API keys, stored as hashes in the entries of the store.

    darkroom_<id>_<secret>      the id finds the entry and names the key in lists; the secret is 192 random bits

A plain SHA-256 is enough: 192 random bits cannot be guessed, so a slow hash adds nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from common.domain.owners import parse_owner
from common.domain.views import iso
from common.runtime.clock import Clock
from common.store.port import Entry, Store

KIND: Final = "key"
PREFIX: Final = "darkroom_"  # lets scanners for leaked secrets recognise a key
_FORM: Final = re.compile(rf"{PREFIX}([0-9a-f]{{12}})_([0-9a-f]{{48}})")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """The stored data of a key, without its secret."""

    id: str
    owner: str
    name: str
    created_at: datetime
    expires_at: datetime | None = None

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


def looks_like_key(text: str) -> bool:
    return text.startswith(PREFIX)


@dataclass(frozen=True, slots=True)
class ApiKeyStore:
    """The keys in the store. Nothing is cached, so a revoked key is rejected from the next request on."""

    store: Store
    clock: Clock

    async def create(self, owner: str, *, name: str = "", expires_at: datetime | None = None) -> str:
        """Create a key and return its text, which cannot be read again.

        Raises:
            Invalid: the owner's name is not valid.
        """
        parse_owner(owner)
        key_id, secret = secrets.token_hex(6), secrets.token_hex(24)
        data = {"owner": owner, "name": name, "hash": _hash(secret), "created_at": iso(self.clock.now())}
        if expires_at is not None:
            data["expires_at"] = iso(expires_at)
        # not Entry.expires_at, which removes the entry: an expired key is still listed
        if not await self.store.put_entry(Entry(KIND, key_id, 1, data)):
            return await self.create(owner, name=name, expires_at=expires_at)  # the id is taken: one in 2^48
        return f"{PREFIX}{key_id}_{secret}"

    async def find(self, text: str) -> ApiKey | None:
        """The key with this text; None if it is wrong, revoked or expired."""
        found = _FORM.fullmatch(text)
        entry = await self.store.get_entry(KIND, found[1]) if found else None
        if found is None or entry is None or not hmac.compare_digest(entry.data["hash"], _hash(found[2])):
            return None
        key = _key(entry)
        return None if key.has_expired(self.clock.now()) else key

    async def is_valid(self, key_id: str) -> bool:
        """Whether a key that was found before is neither revoked nor expired."""
        entry = await self.store.get_entry(KIND, key_id)
        return entry is not None and not _key(entry).has_expired(self.clock.now())

    async def list_all(self) -> list[ApiKey]:
        """All keys, oldest first, including expired ones."""
        return sorted((_key(entry) for entry in await self.store.list_entries(KIND)), key=lambda key: key.created_at)

    async def revoke(self, key_id: str) -> bool:
        """Delete the key; False if there is no key with this id."""
        return await self.store.remove_entry(KIND, key_id)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(entry: Entry) -> ApiKey:
    data = entry.data
    expires_at = data.get("expires_at")
    return ApiKey(
        id=entry.key,
        owner=data["owner"],
        name=data["name"],
        created_at=datetime.fromisoformat(data["created_at"]),
        expires_at=datetime.fromisoformat(expires_at) if expires_at else None,
    )
