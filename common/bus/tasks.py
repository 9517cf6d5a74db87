"""Background tasks that end together with the bus that started them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

StartTask = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


@asynccontextmanager
async def task_scope() -> AsyncIterator[StartTask]:
    """Run tasks until the block ends. If a task fails, the block is cancelled and raises its error, ungrouped."""
    started: set[asyncio.Task[None]] = set()
    failed: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:

            def start(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
                task = group.create_task(work)
                started.add(task)
                task.add_done_callback(started.discard)
                return task

            try:
                yield start
            finally:
                for task in list(started):
                    task.cancel()
    except BaseExceptionGroup as errors:
        failed = errors.exceptions[0]
    if failed is not None:
        raise failed  # not in the except clause, which would change its __context__
