"""Deadlines around requests to the broker."""

import asyncio
from contextlib import suppress

import pytest

from common.bus.rabbitmq.deadlines import BrokerUnavailable, deadline


async def test_a_swallowed_cancellation_ends_the_task():
    """As aiormq does while a channel closes; the janitor's task that counts the queues went on for ever."""
    waiting = asyncio.Event()

    async def count_for_ever():
        while True:
            async with deadline(60):
                with suppress(asyncio.CancelledError):
                    waiting.set()
                    await asyncio.Event().wait()

    task = asyncio.create_task(count_for_ever())
    await waiting.wait()
    task.cancel()

    done, _ = await asyncio.wait({task}, timeout=10)
    assert done == {task}
    assert task.cancelled()


async def test_a_lost_connection_is_no_cancellation():
    with pytest.raises(BrokerUnavailable, match="closing it: the connection was lost"):
        async with deadline(60, doing="closing it"):
            raise asyncio.CancelledError


async def test_a_broker_that_does_not_answer_is_unavailable():
    with pytest.raises(BrokerUnavailable, match=r"did not answer within 0\.01 s"):
        async with deadline(0.01):
            await asyncio.Event().wait()
