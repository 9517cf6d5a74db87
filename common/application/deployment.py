"""The id of a deployment: all services with one store are one deployment."""

from __future__ import annotations

import uuid
from typing import Final

from common.store.port import Entry, Store

KIND: Final = "deployment"
_KEY: Final = "id"


async def deployment_id(store: Store) -> str:
    """The id that the store holds; made by the first service that asks. Raises Unavailable."""
    while (entry := await store.get_entry(KIND, _KEY)) is None:
        await store.put_entry(Entry(KIND, _KEY, 1, {"id": str(uuid.uuid4())}))  # of several at once, one wins
    return str(entry.data["id"])
