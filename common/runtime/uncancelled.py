"""Waiting for work that must end before its caller does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def run_to_end(work: Awaitable[T]) -> T:
    """The result of the work. If the caller is cancelled, the work continues, and the caller ends after it.

    The work must have an end of its own: a cancelled caller has no other limit.

    Raises:
        CancelledError: the caller was cancelled; the work has ended, and its result or error is dropped.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue  # cancelled once more; it is raised below
        if not task.cancelled():
            task.exception()  # marks it as seen
        raise
