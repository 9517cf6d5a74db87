"""How a bus is opened where it cannot be, and what is left when it is closed.

Each test is named after its row in the list of faults.
"""

import asyncio
from urllib.parse import urlsplit, urlunsplit

import pytest

from common.bus.port import Since, WorkQueue
from common.domain.errors import Misconfigured, Unavailable
from common.messages import ApiJoined
from tests.contract.bus.support import EPOCH, Recorder, now, order, until
from tests.faults.bus.support import is_refused, is_well, opened
from tests.proxy import proxy_before


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"netloc": "guest:wrong-secret@{address}"}, "refuses the user 'guest' or its password"),
        ({"path": "/nowhere"}, "has no virtual host 'nowhere' for the user 'guest'"),
    ],
)
@pytest.mark.fault(row=13)
async def test_wrong_credentials_end_the_start_with_a_clear_text(vhost: str, change: dict[str, str], expected: str):
    parts = urlsplit(vhost)
    change = {name: value.format(address=parts.netloc.rpartition("@")[2]) for name, value in change.items()}

    with pytest.raises(Misconfigured, match=expected) as raised:
        async with opened(urlunsplit(parts._replace(**change))):
            pytest.fail("it opened")
    assert "secret" not in raised.value.detail


@pytest.mark.fault(row=13)
async def test_a_broker_that_is_not_there_yet_is_waited_for(vhost: str):
    async with proxy_before(vhost) as (proxy, url):
        proxy.refuse()
        async with opened(url, timeout_s=0.3) as bus:
            unready_reason = bus.unready_reason
            with pytest.raises(Unavailable) as raised:
                await bus.send(order())
            worker = Recorder()
            async with bus.work(WorkQueue.GENERATE, worker, concurrency=1):
                await proxy.listen()
                await is_well(bus)
                await bus.send(order())
                await worker.saw(1)

    assert "connecting to 127.0.0.1" in unready_reason
    assert is_refused(raised.value)


@pytest.mark.fault(row=13)
async def test_a_wrong_password_seen_later_ends_the_block(vhost: str):
    async with proxy_before(vhost.replace("guest:guest", "guest:wrong")) as (proxy, url):
        proxy.refuse()

        async def serve() -> None:
            async with opened(url, timeout_s=0.3):
                await proxy.listen()
                await asyncio.Event().wait()

        with pytest.raises(Misconfigured, match="refuses the user"):
            await serve()


async def test_nothing_is_left_running_when_a_bus_is_closed(vhost: str):
    before = asyncio.all_tasks()
    async with (
        opened(vhost) as bus,
        bus.work(WorkQueue.GENERATE, Recorder(), concurrency=1),
        bus.listen(frozenset({"a.b"}), print),
    ):
        reading = bus.read(Since(EPOCH))
        await bus.publish(ApiJoined(id="1", source="test", time=now()))
        await anext(reading)
        await reading.aclose()
    await until(lambda: asyncio.all_tasks() == before)


async def test_an_error_in_the_block_comes_out_as_it_is(vhost: str):
    with pytest.raises(ZeroDivisionError):
        async with opened(vhost):
            raise ZeroDivisionError
