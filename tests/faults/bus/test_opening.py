"""Faults while a bus is opened or closed.

The number in the name of a test is its row in the list of faults.
"""

import asyncio
from urllib.parse import urlsplit, urlunsplit

import pytest

from common.bus.port import Since, WorkQueue
from common.domain.errors import Misconfigured, Unavailable
from common.messages import ApiJoined
from tests.contract.bus.support import EPOCH, Recorder, generate_command, now, until
from tests.faults.bus.support import is_refused, open_rabbit_bus, wait_until_ready
from tests.proxy import proxy_before


@pytest.mark.fault(row=13)
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"netloc": "guest:wrong-secret@{address}"}, "refuses the user 'guest' or its password"),
        ({"path": "/nowhere"}, "has no virtual host 'nowhere' for the user 'guest'"),
    ],
)
async def test_wrong_credentials_end_the_start_with_a_clear_error(vhost: str, change: dict[str, str], expected: str):
    parts = urlsplit(vhost)
    change = {name: value.format(address=parts.netloc.rpartition("@")[2]) for name, value in change.items()}

    with pytest.raises(Misconfigured, match=expected) as raised:
        async with open_rabbit_bus(urlunsplit(parts._replace(**change))):
            pytest.fail("the bus opened")
    assert "secret" not in raised.value.detail


@pytest.mark.fault(row=13)
async def test_an_unreachable_broker_is_retried(vhost: str):
    async with proxy_before(vhost) as (proxy, url):
        proxy.refuse()
        async with open_rabbit_bus(url, timeout_s=0.3) as bus:
            unready_reason = bus.unready_reason
            with pytest.raises(Unavailable) as raised:
                await bus.send(generate_command())
            handler = Recorder()
            async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1):
                await proxy.listen()
                await wait_until_ready(bus)
                await bus.send(generate_command())
                await handler.wait_for(1)

    assert "connecting to 127.0.0.1" in unready_reason
    assert is_refused(raised.value)


@pytest.mark.fault(row=13)
async def test_a_wrong_password_found_later_ends_the_block(vhost: str):
    async with proxy_before(vhost.replace("guest:guest", "guest:wrong")) as (proxy, url):
        proxy.refuse()

        async def serve() -> None:
            async with open_rabbit_bus(url, timeout_s=0.3):
                await proxy.listen()
                await asyncio.Event().wait()

        with pytest.raises(Misconfigured, match="refuses the user"):
            await serve()


async def test_nothing_is_left_running_when_a_bus_is_closed(vhost: str):
    before = asyncio.all_tasks()
    async with (
        open_rabbit_bus(vhost) as bus,
        bus.consume(WorkQueue.GENERATE, Recorder(), concurrency=1),
        bus.subscribe(frozenset({"a.b"}), print),
    ):
        reader = bus.read(Since(EPOCH))
        await bus.publish(ApiJoined(id="1", source="test", time=now()))
        await anext(reader)
        await reader.aclose()
    await until(lambda: asyncio.all_tasks() == before)


async def test_an_error_in_the_block_is_raised_unchanged(vhost: str):
    with pytest.raises(ZeroDivisionError):
        async with open_rabbit_bus(vhost):
            raise ZeroDivisionError
