"""Links to the broker that are cut again and again while a message is handled."""

import logging
from datetime import timedelta
from functools import partial

import pytest

from common.bus.port import WorkQueue
from common.bus.rabbitmq.topology import DELIVERY_LIMIT
from tests.borders.bus.support import open_bus
from tests.contract.bus.support import Recorder, generate_command, now, until
from tests.proxy import proxy_before

CUTS = DELIVERY_LIMIT + 6


@pytest.mark.border(rule="A9")
async def test_a_link_that_is_cut_often_makes_no_dead_letter(vhost: str, caplog: pytest.LogCaptureFixture):
    """The broker counts each return of the message, and gives up after twenty; the handler runs all the time."""
    caplog.set_level(logging.DEBUG, "common.bus.rabbitmq.consumer")
    handler = Recorder()
    handler.gate.clear()
    async with (
        proxy_before(vhost) as (proxy, url),
        open_bus(url) as bus,
        open_bus(vhost) as other,
        bus.consume(WorkQueue.GENERATE, handler, concurrency=1) as consumer,
    ):
        await other.send(generate_command("image-1"))
        await handler.wait_for(1)
        for number in range(CUTS):
            proxy.cut()
            await until(partial(_was_redelivered, caplog, number))
        in_hand = consumer.in_flight
        handler.gate.set()
        await until(lambda: consumer.in_flight == 0)
        await until(lambda: _is_empty(other))

        assert (in_hand, handler.max_running) == (1, 1)
        assert await other.dead_letters(10) == []


@pytest.mark.border(rule="B2")
async def test_only_a_redelivery_joins_its_running_handler(vhost: str, caplog: pytest.LogCaptureFixture):
    """Both come back with the cut link, marked as delivered before."""
    caplog.set_level(logging.DEBUG, "common.bus.rabbitmq.consumer")
    handler = Recorder()
    handler.gate.clear()
    first = generate_command("image-1")
    second = first.model_copy(update={"time": now() + timedelta(seconds=1)})
    async with (
        proxy_before(vhost) as (proxy, url),
        open_bus(url) as bus,
        open_bus(vhost) as other,
        bus.consume(WorkQueue.GENERATE, handler, concurrency=3) as consumer,
    ):
        await other.send(first)
        await handler.wait_for(1)
        await other.send(second)
        await other.send(generate_command("marker"))
        await handler.wait_for(2)
        proxy.cut()
        await until(lambda: caplog.text.count("is still in progress") >= 2)  # image-1 and the marker
        handler.gate.set()
        await handler.wait_for(3)
        await until(lambda: consumer.in_flight == 0)

    assert handler.ids == ["image-1", "marker", "image-1"]
    assert handler.received[2].time > handler.received[0].time


def _was_redelivered(caplog: pytest.LogCaptureFixture, times: int) -> bool:
    return caplog.text.count("is still in progress") > times


async def _is_empty(bus) -> bool:
    return await bus.waiting(WorkQueue.GENERATE) == 0
