"""What each role may do on the broker, with users that have exactly the documented rights."""

import asyncio
import logging
from dataclasses import replace

import aiormq
import pytest

from common.bus.port import Reject, Retry, Since, WorkQueue
from common.bus.rabbitmq.topology import DEAD_QUEUE, LOG_QUEUE, ROUTES
from common.domain.errors import Misconfigured, Unavailable
from common.messages import Event, Tick
from tests.borders.bus.support import attempt, documented_rights, open_bus
from tests.contract.bus.support import (
    EPOCH,
    Recorder,
    cancel_command,
    generate_command,
    has_dead_letters,
    image_event,
    now,
    read_events,
    until,
)
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.rabbitmq_engines import User

pytestmark = pytest.mark.rabbitmq  # the fixture of the module sets no mark
ALL = ("^image\\.", "^image\\.", "^image\\.")
FULL = {"x-max-length": 0, "x-overflow": "reject-publish"}
PRIVATE = ("image.work", "image.timers", "image.timers.wait", "image.dead", "image.retry.200.v2", "")
OUR_QUEUES = (*(route.queue for route in ROUTES.values()), DEAD_QUEUE)


def _publish(exchange: str, key: str = "generate"):
    return lambda channel: channel.basic_publish(b"{}", exchange=exchange, routing_key=key)


def _get(queue: str):
    return lambda channel: channel.basic_get(queue)


def _bind(queue: str, exchange: str):
    return lambda channel: channel.queue_bind(queue, exchange, "#")


def _declare(queue: str, arguments=None):
    return lambda channel: channel.queue_declare(queue, durable=True, arguments=arguments)


async def _read_log(channel) -> None:
    await channel.basic_qos(prefetch_count=1)
    await channel.basic_consume(LOG_QUEUE, _ignore, arguments={"x-stream-offset": "first"})


async def _ignore(_message) -> None:
    pass


MAY = {
    "newsletter": {
        "order": _publish("image.commands"),
        "cancel": _publish("image.commands", "cancel"),
    },
    "dashboard": {
        "declare a queue": _declare("dashboard.events"),
        "bind it to the events": _bind("dashboard.events", "image.events"),
        "read it": _get("dashboard.events"),
        "read the log": _read_log,
    },
    "operator": {
        "fire a timer": _publish("image.timers", "purge"),
        "redrive": _publish("image.work"),
        "read dead letters": _get(DEAD_QUEUE),
        "read the log": _read_log,
    },
}
ORDERS_QUEUE = ROUTES[WorkQueue.GENERATE].queue
# what would stop the services or take their messages, by name
DESTROY = {
    "purge the orders": lambda channel: channel.queue_purge(ORDERS_QUEUE),
    "delete the queue of orders": lambda channel: channel.queue_delete(ORDERS_QUEUE),
    "delete the dead letters": lambda channel: channel.queue_delete(DEAD_QUEUE),
    "delete the log": lambda channel: channel.queue_delete(LOG_QUEUE),
    "unbind the orders": lambda channel: channel.queue_unbind(ORDERS_QUEUE, "image.commands", "generate"),
    "delete the exchange of events": lambda channel: channel.exchange_delete("image.events"),
    "delete the exchange of orders": lambda channel: channel.exchange_delete("image.commands"),
    "declare the exchange of orders anew": lambda channel: channel.exchange_declare(
        "image.commands", exchange_type="fanout"
    ),
    "copy the orders": lambda channel: channel.exchange_bind("dashboard.copies", "image.commands", "#"),
    "copy into the orders": lambda channel: channel.exchange_bind("image.work", "dashboard.copies", "#"),
    "take over what the orders do not match": lambda channel: channel.exchange_declare(
        "dashboard.alternate", exchange_type="fanout", arguments={"alternate-exchange": "image.work"}
    ),
}
MAY_NOT = {
    "newsletter": {
        **DESTROY,
        **{f"publish to {exchange or 'the default'}": _publish(exchange) for exchange in PRIVATE},
        "publish events": _publish("image.events", "image.completed"),
        "publish to the log": _publish("image.events.log"),
        **{f"take from {queue}": _get(queue) for queue in OUR_QUEUES},
        "declare a queue": _declare("newsletter.own"),
        "read the log": _read_log,
        "bind a timer to orders": _bind("image.timer.purge.v1", "image.commands"),
    },
    "dashboard": {
        **DESTROY,
        **{f"publish to {exchange or 'the default'}": _publish(exchange) for exchange in PRIVATE},
        "order": _publish("image.commands"),
        "publish events": _publish("image.events", "image.completed"),
        **{f"take from {queue}": _get(queue) for queue in OUR_QUEUES},
        "bind a queue to the orders": _bind("dashboard.events", "image.commands"),
        "bind a queue to the dead letters": _bind("dashboard.events", "image.dead"),
        "bind a work queue to the events": _bind("image.timer.purge.v1", "image.events"),
        "dead-letter into orders": _declare("dashboard.dlx", {"x-dead-letter-exchange": "image.work"}),
        "dead-letter into events": _declare("dashboard.loop", {"x-dead-letter-exchange": "image.events"}),
        "dead-letter into timers": _declare("dashboard.timers", {"x-dead-letter-exchange": "image.timers"}),
        "declare in our name": _declare("image.events.dashboard", FULL),
    },
    "operator": {
        **{what: action for what, action in DESTROY.items() if what != "copy into the orders"},
        "order as a publisher": _publish("image.commands"),
        "publish events": _publish("image.events", "image.completed"),
        "publish to the default": _publish("", "image.timer.purge.v1"),
        "take an order": _get(ROUTES[WorkQueue.GENERATE].queue),
        "declare a queue": _declare("image.other"),
    },
}
REFUSED = {
    "image.timers.wait": lambda bus: bus.arm("timer.purge", interval_s=60),
    "image.timers": lambda bus: bus.tick(Tick(id="1", source="test", type="timer.purge", time=now())),
    "image.work": lambda bus: bus.send(generate_command()),
    "image.events": lambda bus: bus.publish(image_event(1)),
    "image.retry.1000.v2": lambda bus: bus.send(generate_command(), delay_s=1),
}


def all_but(exchange: str) -> tuple[str, str, str]:
    others = f"^image\\.(?!{exchange.removeprefix('image.').replace('.', chr(92) + '.')}$)"
    return ALL[0], others, ALL[2]


@pytest.fixture(scope="module")
def users(rabbitmq_of_the_run: RabbitMQ) -> dict[str, User]:
    """The user of each test, in a virtual host of its own; making one by one would take a second of a core each."""
    roles = documented_rights()
    rights = {
        **roles,
        "operator at work": roles["operator"],
        "frugal": ("^image\\.events\\.", *ALL[1:]),
        **{exchange: all_but(exchange) for exchange in REFUSED},
    }
    found = {}
    for name, each in rights.items():
        vhost = rabbitmq_of_the_run.fresh_vhost()
        found[name] = User(f"{name}-{vhost.rpartition('/')[2]}", "secret", vhost, each)
    rabbitmq_of_the_run.add_users(*found.values())
    return found


@pytest.mark.border(rule="A4")
@pytest.mark.parametrize("role", ["newsletter", "dashboard", "operator"])
async def test_a_role_may_do_what_the_documents_say_and_no_more(users: dict[str, User], role: str):
    async with open_bus(users[role].vhost):
        connection = await aiormq.connect(users[role].url)
        outcomes = {}
        for what, action in {**MAY[role], **MAY_NOT[role]}.items():
            outcomes[what] = await attempt(await connection.channel(), action)
        await connection.close()

    assert {what: outcomes[what] for what in MAY[role]} == dict.fromkeys(MAY[role], "done")
    assert {what: outcomes[what] for what in MAY_NOT[role]} == dict.fromkeys(MAY_NOT[role], "refused")


@pytest.mark.border(rule="A4")
async def test_services_need_no_more_than_their_documented_rights(users: dict[str, User]):
    """Everything that the port offers, by a user who may not use the default exchange."""
    handler, ticks = Recorder(Retry(0.1), Reject("no")), Recorder()
    heard: list[Event] = []
    event = image_event(1)
    async with (
        open_bus(users["darkroom"].url, deployment="one") as bus,
        bus.consume(WorkQueue.GENERATE, handler, concurrency=1),
        bus.consume(WorkQueue.PURGE, ticks, concurrency=1),
        bus.subscribe(frozenset({event.type}), heard.append),
    ):
        await bus.send(generate_command(), delay_s=0.1)
        await bus.send(cancel_command("image-1"))
        await bus.publish(event)
        assert await bus.arm("timer.purge", interval_s=0.1)
        await bus.tick(Tick(id="tick-1", source="test", type="timer.purge", time=now()))
        await ticks.wait_for(2)
        await until(lambda: has_dead_letters(bus))
        (letter,) = await bus.dead_letters(10)
        assert await bus.redrive(letter.id)
        await handler.wait_for(3)
        assert len(await read_events(bus, Since(EPOCH), 1)) == 1
        assert await bus.waiting(WorkQueue.CANCEL) == 1
        assert (bus.unready_reason, bus.warning) == ("", "")
    assert len(heard) == 1


@pytest.mark.border(rule="A8")
async def test_an_operator_needs_only_the_documented_rights(users: dict[str, User]):
    operator = users["operator at work"]
    ticks, handler = Recorder(), Recorder(Reject("no"), Reject("no"))
    async with (
        open_bus(operator.vhost) as services,
        services.consume(WorkQueue.PURGE, ticks, concurrency=1),
        services.consume(WorkQueue.GENERATE, handler, concurrency=1),
        open_bus(operator.url) as bus,
    ):
        assert bus.unready_reason == ""
        await bus.tick(Tick(id="tick-1", source="operator", type="timer.purge", time=now()))
        await bus.send(generate_command())
        await bus.send(generate_command())
        await ticks.wait_for(1)
        await until(lambda: has_dead_letters(services, 2))
        first, second = await bus.dead_letters(10)
        assert await bus.drop(first.id)
        assert await bus.redrive(second.id)
        await handler.wait_for(3)
        await services.publish(image_event(1))
        assert len(await read_events(bus, Since(EPOCH), 1)) == 1


@pytest.mark.border(rule="A8")
async def test_a_user_who_may_not_declare_uses_what_exists(users: dict[str, User]):
    """Timers need a queue for their interval: it is used if it exists."""
    frugal = users["frugal"]
    handler = Recorder()
    heard: list[Event] = []
    with pytest.raises(Misconfigured, match=r"missing on the broker.*image\.commands, image\.work, .*ACCESS_REFUSED"):
        async with open_bus(frugal.url):
            pytest.fail("the bus opened")
    async with open_bus(frugal.vhost) as services:
        await services.arm("timer.purge", interval_s=60)
    async with (
        open_bus(frugal.url) as bus,
        bus.consume(WorkQueue.GENERATE, handler, concurrency=1),
        bus.subscribe(frozenset({"image.deleted"}), heard.append),
    ):
        await bus.send(generate_command())
        await handler.wait_for(1)
        await bus.publish(image_event(1))
        await until(lambda: bool(heard))
        assert not await bus.arm("timer.purge", interval_s=60)
        with pytest.raises(Unavailable, match=r"image\.timer\.purge\.wait\.61000\.v1"):
            await bus.arm("timer.purge", interval_s=61)
        assert bus.unready_reason == ""

    with pytest.raises(Misconfigured, match=r"may not declare it: image\.retry\.7000\.v2, image\.retry\.7000\.v2"):
        async with open_bus(frugal.url, retry_delays=(7,)):
            pytest.fail("the bus opened")


@pytest.mark.border(rule="A4")
@pytest.mark.parametrize("exchange", REFUSED)
@pytest.mark.long_unless("image.work", "image.events")
async def test_an_exchange_that_refuses_the_user_is_a_reason(
    rabbitmq: RabbitMQ, users: dict[str, User], exchange: str, caplog: pytest.LogCaptureFixture
):
    """The reason goes when the right is given, without a restart; other exchanges keep working meanwhile."""
    async with open_bus(users[exchange].vhost) as services:
        await services.arm("timer.purge", interval_s=90)
    async with open_bus(users[exchange].url) as bus:
        for _ in range(2):
            with pytest.raises(Unavailable) as refused:
                await REFUSED[exchange](bus)
        assert f"not allowed to publish to {exchange}: ACCESS_REFUSED" in str(refused.value)
        assert exchange in bus.unready_reason
        errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
        assert [f"this user may not publish to the exchange {exchange}" in error for error in errors] == [True]
        other = "image.work" if exchange == "image.events" else "image.events"
        await asyncio.gather(*(REFUSED[other](bus) for _ in range(5)))

        await asyncio.to_thread(rabbitmq.add_users, replace(users[exchange], rights=ALL))
        await REFUSED[exchange](bus)
        assert bus.unready_reason == ""
