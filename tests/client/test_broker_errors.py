"""What the bus half makes of errors of its libraries."""

import asyncio
from contextlib import suppress

import pytest

from darkroom_client.bus.connection import broker_errors
from darkroom_client.errors import BusError


async def test_a_swallowed_cancellation_ends_the_task():
    """As aiormq does while a channel closes: a listener would go on for ever."""
    waiting = asyncio.Event()

    async def listen_for_ever():
        while True:
            async with broker_errors("listening"):
                with suppress(asyncio.CancelledError):
                    waiting.set()
                    await asyncio.Event().wait()

    task = asyncio.create_task(listen_for_ever())
    await waiting.wait()
    task.cancel()

    done, _ = await asyncio.wait({task}, timeout=10)
    assert done == {task}
    assert task.cancelled()


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ConnectionResetError("gone")])
async def test_a_lost_connection_is_a_bus_error(error):
    """aiormq raises a CancelledError for it, though nobody has cancelled the task."""
    with pytest.raises(BusError, match="sending: "):
        async with broker_errors("sending"):
            raise error


async def test_an_error_of_a_cancelled_task_is_its_cancellation():
    """aiormq may replace the CancelledError by an error of the connection that closes meanwhile."""

    async def send():
        async with broker_errors("sending"):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ConnectionResetError from None

    task = asyncio.create_task(send())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
