"""Deadlines for requests to the broker; errors of the library become errors of this code base."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Final

from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from common.bus.handling import cancel_requests
from common.domain.errors import Misconfigured, Unavailable

log = logging.getLogger(__name__)

CLOSE_LIMIT_S: Final = 2.5  # aiormq waits 2 s for the broker's answer


class BrokerUnavailable(Unavailable):
    """The broker cannot do what was requested; `reason` says why, without the prefix for the bus."""

    def __init__(self, reason: str) -> None:
        super().__init__("bus", reason)
        self.reason = reason


@asynccontextmanager
async def deadline(timeout_s: float, *, doing: str = "") -> AsyncIterator[None]:
    """Raise `BrokerUnavailable` if the block takes longer than `timeout_s` or fails with an error of the library.

    aiormq raises a CancelledError when a connection is lost. If nobody cancelled this task, it becomes
    `BrokerUnavailable` too. And it swallows the CancelledError of this task while a channel closes: the block then ends
    as if nothing was requested, so it is raised here.
    """
    before = cancel_requests()
    prefix = f"{doing}: " if doing else ""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except (asyncio.CancelledError, TimeoutError, *CONNECTION_EXCEPTIONS) as error:
        if cancel_requests() > before:
            # aiormq may have replaced the CancelledError by an error of the connection that closes meanwhile
            raise error if isinstance(error, asyncio.CancelledError) else asyncio.CancelledError from error
        raise BrokerUnavailable(prefix + _reason(error, timeout_s)) from error
    raise_if_cancelled(before)


def raise_if_cancelled(before: int) -> None:
    """Raise the CancelledError that a library has swallowed: aiormq does while its connection closes.

    `before` is what `cancel_requests` returned when the work began.
    """
    if cancel_requests() > before:
        raise asyncio.CancelledError


def _reason(error: BaseException, timeout_s: float) -> str:
    match error:
        case asyncio.CancelledError():
            return "the connection was lost"
        case TimeoutError():
            return f"the broker did not answer within {timeout_s:g} s"
    return describe_error(error)


def error_reason(error: BrokerUnavailable | Misconfigured) -> str:
    return error.reason if isinstance(error, BrokerUnavailable) else error.detail


def describe_error(error: BaseException) -> str:
    """Describe an error of a library in one line."""
    return f"{type(error).__name__}: {' '.join(str(part) for part in error.args)}".replace("\n", " ")[:300]


async def wait_for_event(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait for the event for at most `timeout_s`; True if it is set."""
    try:
        async with asyncio.timeout(timeout_s):
            return await event.wait()
    except TimeoutError:
        return False


async def close_quietly(closing: Awaitable[None]) -> None:
    """Await a close of something that may be closed already, or may never answer."""
    try:
        async with deadline(CLOSE_LIMIT_S):
            await closing
    except BrokerUnavailable as error:
        log.debug("closed without the broker's answer: %s", error.reason)
