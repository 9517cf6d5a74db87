"""`darkroom keys`: make, list and revoke API keys in the store of the settings."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

from common.application.api_keys import ApiKeyStore
from common.domain.errors import ServiceError
from common.runtime.clock import SystemClock
from common.runtime.settings import Settings
from common.store.connect import open_store


def run(settings: Settings, act: Callable[[ApiKeyStore], Coroutine[Any, Any, int]]) -> int:
    """Act on the keys; the exit status, 1 with the reason on stderr."""

    async def on_store() -> int:
        async with open_store(settings.store_url, timeout_s=settings.store_timeout) as store:
            return await act(ApiKeyStore(store, SystemClock()))

    try:
        return asyncio.run(on_store())
    except ServiceError as error:
        _say(f"{error.code}: {error.detail}")
        return 1


async def create(keys: ApiKeyStore, owner: str, *, name: str, holds_s: float | None, is_on: bool) -> int:
    """Print the new key, and nothing else, on stdout: it is not to be had again."""
    expires_at = None if holds_s is None else keys.clock.now() + timedelta(seconds=holds_s)
    key = await keys.create(owner, name=name, expires_at=expires_at)
    sys.stdout.write(f"{key}\n")
    _say("keep it: only its hash is stored, and it is not shown again")
    if not is_on:
        _say("the api asks for nobody's key yet: set API_KEYS=true, or set up tokens (docs/security.md)")
    return 0


async def list_keys(keys: ApiKeyStore) -> int:
    """One line for each key, oldest first; never the key itself."""
    found = await keys.list_all()
    for key in found:
        expires = _day(key.expires_at) if key.expires_at else "never"
        gone = "  (expired)" if key.has_expired(keys.clock.now()) else ""
        sys.stdout.write(f"{key.id}  {_day(key.created_at)}  expires {expires}{gone}  {key.owner}  {key.name}\n")
    _say(f"{len(found)} keys")
    return 0


async def revoke(keys: ApiKeyStore, key_id: str) -> int:
    """At once: the next request with it is refused."""
    if await keys.revoke(key_id):
        return 0
    _say(f"there is no key {key_id}; `darkroom keys list` shows the ids")
    return 1


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _say(text: str) -> None:
    sys.stderr.write(f"darkroom: {text}\n")
