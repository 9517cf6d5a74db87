"""Pools: groups of generators with the same models, each with a work queue of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from pydantic import Field

DEFAULT_POOL: Final = "default"  # of generators that name none, and of records and messages of older releases
_PATTERN: Final = "[a-z0-9-]{1,40}"

PoolName = Annotated[str, Field(pattern=rf"^{_PATTERN}$")]


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """The images of a pool: dispatched and not started, running, and dispatched but not sent."""

    queued: int
    running: int
    unsent: int
    oldest_sent_at: datetime | None = None  # of those that are sent and not started


def stored_pool(pool: str) -> str | None:
    """The pool as a record names it: `default` is absent, as on the records of older releases."""
    return None if pool == DEFAULT_POOL else pool


def is_pool_name(text: str) -> bool:
    return re.fullmatch(_PATTERN, text) is not None
