"""Deployments that share a broker; brokers of several nodes."""

import asyncio
from urllib.parse import urlsplit

import pytest

from common.bus.port import Reject, Since, WorkQueue
from common.bus.rabbitmq.transport import node_urls
from common.domain.errors import Misconfigured
from common.messages import Event
from tests.borders.bus.support import open_bus
from tests.contract.bus.support import (
    EPOCH,
    Recorder,
    generate_command,
    has_dead_letters,
    image_event,
    read_events,
    until,
)
from tests.servers.process import free_ports


@pytest.mark.border(rule="A8")
async def test_deployments_with_different_prefixes_do_not_meet(vhost: str):
    """Commands, events, subscribers, timers, retries and dead letters, each as the other deployment sees them."""
    own, foreign, ticks = Recorder(Reject("no")), Recorder(), Recorder()
    heard: list[Event] = []
    command, event = generate_command(), image_event(1)
    async with (
        open_bus(vhost, deployment="one") as one,
        open_bus(vhost, prefix="staging-", deployment="two") as two,
        one.consume(WorkQueue.GENERATE, foreign, concurrency=1),
        one.consume(WorkQueue.PURGE, foreign, concurrency=1),
        one.subscribe(frozenset({event.type}), heard.append),
        two.consume(WorkQueue.GENERATE, own, concurrency=1),
        two.consume(WorkQueue.PURGE, ticks, concurrency=1),
    ):
        await two.send(command, delay_s=0.1)
        await two.publish(event)
        assert await two.arm("timer.purge", interval_s=0.1)
        await ticks.wait_for(1)
        await until(lambda: has_dead_letters(two))

        (logged,) = await read_events(two, Since(EPOCH), 1)
        (letter,) = await two.dead_letters(10)
        assert (logged.event.id, letter.queue) == (event.id, WorkQueue.GENERATE)
        assert await two.redrive(letter.id)
        await own.wait_for(2)
        assert await one.dead_letters(10) == []
        await one.publish(image_event(2))
        (first,) = await read_events(one, Since(EPOCH), 1)
        assert first.event.subject == "image-2"

    assert (foreign.received, [each.subject for each in heard]) == ([], ["image-2"])


@pytest.mark.border(rule="A8")
async def test_a_second_deployment_of_the_same_names_is_refused(vhost: str):
    async with open_bus(vhost, deployment="0193a1b2-one"), open_bus(vhost, deployment="0193a1b2-one"):
        with pytest.raises(Misconfigured, match=r"another deployment.*0193a1b2-one.*0193a1b2-two.*BUS_PREFIX"):
            async with open_bus(vhost, deployment="0193a1b2-two"):
                pytest.fail("the bus opened")
        async with open_bus(vhost) as unknown:  # a command line tool has no store
            assert unknown.unready_reason == ""


@pytest.mark.border(rule="A8")
async def test_the_nodes_of_the_url_are_tried_in_turn(vhost: str):
    parts = urlsplit(vhost)
    user, _, address = parts.netloc.rpartition("@")
    (closed,) = free_ports(1)
    handler = Recorder()
    url = f"{parts.scheme}://{user}@127.0.0.1:{closed},{address}{parts.path}"
    async with open_bus(url) as bus, bus.consume(WorkQueue.GENERATE, handler, concurrency=1):
        assert bus.unready_reason == ""
        await bus.send(generate_command())
        await handler.wait_for(1)

    async with open_bus(url.replace(address, f"127.0.0.1:{closed}"), timeout_s=0.5) as bus:
        await asyncio.sleep(0)
        assert bus.unready_reason.count(f"connecting to 127.0.0.1:{closed}") == 2


@pytest.mark.border(rule="A8")
@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("amqp://u:p%2C@one,two:5673,[::1]:5674/v", [("one", None), ("two", 5673), ("::1", 5674)]),
        ("amqps://one", [("one", None)]),
    ],
)
def test_a_url_names_several_nodes(url: str, hosts: list):
    found = node_urls(url)

    assert [(each.host, each.explicit_port) for each in found] == hosts
    assert {(each.scheme, each.user, each.path) for each in found} == {
        (urlsplit(url).scheme, found[0].user, found[0].path)
    }


@pytest.mark.border(rule="A8")
@pytest.mark.parametrize("url", ["amqp://", "amqp://one,,two", "amqp://one:0", "amqp://one:x,two", "amqp://,"])
def test_a_url_of_another_form_is_refused_without_showing_it(url: str):
    with pytest.raises(Misconfigured, match="BUS_URL: the form is"):
        node_urls(url.replace("//", "//user:secret@"))
