"""The bus half with a real RabbitMQ and the bus of the server."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

import pytest

from common.bus.port import WorkQueue
from common.bus.rabbitmq.bus import RabbitBus
from common.domain import transitions
from common.domain.images import Format, Lease, Picture
from common.domain.requests import GenerationRequest
from common.runtime.clock import SystemClock
from darkroom_client import BusError, Completed, Failed, InvalidRequest, Misconfigured, NotConfirmed, Queued
from darkroom_client.bus import BusListener, BusPublisher, SqliteOutbox, StoredMessage
from darkroom_client.bus.listener import SeenRevisions
from darkroom_client.bus.publisher import new_id
from darkroom_client.messages import ImageDeleted
from tests.borders.bus.support import documented_rights
from tests.cluster import separate
from tests.contract.bus.support import LIMIT_S, Recorder
from tests.inference_double import inference_double, status
from tests.making import an_event_factory, an_image
from tests.proxy import proxy_before
from tests.servers.process import free_ports
from tests.servers.rabbitmq_engines import User


@pytest.fixture
async def bus(vhost):
    async with RabbitBus.open(vhost, name="test", retry_delays=(0.1,), timeout_s=LIMIT_S) as bus:
        yield bus


async def test_an_order_is_confirmed_and_read_by_the_server(bus, vhost):
    orders, cancels = Recorder(), Recorder()
    async with (
        bus.consume(WorkQueue.INTAKE, orders, concurrency=1),
        bus.consume(WorkQueue.CANCEL, cancels, concurrency=1),
        BusPublisher(vhost, source="newsletter") as publisher,
    ):
        image_id = await publisher.order_batch("a lighthouse", 3, owner="ada", width=64, seed=7)
        await publisher.cancel(image_id, owner="ada", batch=True)
        await orders.wait_for(1)
        await cancels.wait_for(1)

    (order,), (cancel,) = orders.received, cancels.received
    assert (order.id, order.source, order.owner) == (image_id, "newsletter", "ada")
    assert order.data == GenerationRequest(prompt="a lighthouse", num_images=3, width=64, seed=7)
    assert (cancel.subject, cancel.owner, cancel.data.batch) == (image_id, "ada", True)


async def test_what_is_wrong_is_refused_before_it_is_sent():
    publisher = BusPublisher("amqp://nowhere/", source="test")

    with pytest.raises(InvalidRequest) as caught:
        await publisher.order("a lighthouse", owner="ada", width=65, steps=0)
    assert caught.value.fields.keys() == {"width", "steps"}
    with pytest.raises(Misconfigured):
        BusPublisher("http://nowhere/", source="test")


async def test_without_a_broker_an_order_is_not_confirmed():
    (port,) = free_ports(1)
    async with BusPublisher(f"amqp://127.0.0.1:{port}/", source="test", timeout_s=0.3) as publisher:
        with pytest.raises(NotConfirmed, match="cannot be reached"):
            await publisher.order("a lighthouse", owner="ada")
    with pytest.raises(BusError):
        async with BusListener(f"amqp://127.0.0.1:{port}/", queue="test.images"):
            pass


class Dying(SqliteOutbox):
    """Its process dies after the confirm, before the message is marked."""

    async def mark_sent(self, message_id: str) -> None:
        raise RuntimeError("killed")


async def test_an_outbox_survives_the_process_and_the_broker(bus, vhost, tmp_path):
    """Stored while the broker is away; sent by a process that dies; sent again by the next one: one image each."""
    path, orders = tmp_path / "outbox.db", Recorder()
    async with proxy_before(vhost) as (proxy, url):
        proxy.refuse()
        async with BusPublisher(url, source="shop", outbox=SqliteOutbox(path)) as publisher:
            ids = [await publisher.order(f"number {each}", owner="ada") for each in range(5)]
    assert len(await SqliteOutbox(path).pending()) == 5

    async with bus.consume(WorkQueue.INTAKE, orders, concurrency=1):
        async with BusPublisher(vhost, source="shop", outbox=Dying(path)):
            await orders.wait_for(5)
        async with BusPublisher(vhost, source="shop", outbox=SqliteOutbox(path)) as publisher:
            await publisher.flush()
            await orders.wait_for(10)

    assert set(orders.ids) == set(ids)
    assert await SqliteOutbox(path).pending() == []


async def test_an_outbox_keeps_one_message_of_each_id(tmp_path):
    outbox = SqliteOutbox(tmp_path / "outbox.db")
    for body in (b"1", b"2"):
        await outbox.store(StoredMessage("a", "generate", body))
    await outbox.store(StoredMessage("b", "cancel", b"3"))

    assert await outbox.pending() == [StoredMessage("a", "generate", b"1"), StoredMessage("b", "cancel", b"3")]
    await outbox.mark_sent("a")
    await outbox.mark_sent("a")
    assert [message.id for message in await outbox.pending()] == ["b"]


async def test_orders_over_a_connection_that_breaks_are_confirmed(bus, vhost):
    orders = Recorder()
    async with (
        bus.consume(WorkQueue.INTAKE, orders, concurrency=1),
        proxy_before(vhost) as (proxy, url),
        BusPublisher(url, source="shop") as publisher,
    ):
        ids = []
        for number in range(12):
            if number % 4 == 3:
                proxy.cut()
            ids.append(await publisher.order(f"number {number}", owner="ada"))
        await orders.wait_for(12)

    assert set(orders.ids) == set(ids)


def life(clock, source="test"):
    """The events of an image from queued to completed."""
    now, events = clock.now(), an_event_factory(clock, source=source)
    image = an_image(created_at=now)
    lease = Lease(token="t", worker="w", until=now)
    running = transitions.claim(image, lease=lease, now=now, deadline=timedelta(minutes=5))
    picture = Picture(
        image_file="f", thumbnail="t", format=Format.PNG, file_size=1, width=1, height=1, generation_time=1
    )
    done = transitions.complete(running, lease=lease, attempt=1, picture=picture, now=now)
    return events.changed(image, "image.queued"), events.changed(done, "image.completed")


async def test_events_wait_in_the_queue_and_are_shown_once(bus, vhost):
    """Not acknowledged: shown again. Repeated or outdated: left out."""
    clock = SystemClock()
    lives = [life(clock) for _ in range(3)]
    kinds = ["image.queued", "image.completed"]
    async with BusListener(vhost, queue="shop.images", events=kinds):
        pass
    for queued, completed in lives:
        for event in (queued, completed, completed, queued):
            await bus.publish(event)

    async with BusListener(vhost, queue="shop.images", events=kinds) as listener, aclosing(listener.events()) as events:
        first = await anext(events)
    async with BusListener(vhost, queue="shop.images", events=kinds) as listener, aclosing(listener.events()) as events:
        found = [await anext(events) for _ in range(6)]

    assert isinstance(first, Queued)
    assert [type(event) for event in found] == [Queued, Completed] * 3
    assert [event.image_id for event in found[::2]] == [queued.subject for queued, _ in lives]
    assert {event.owner for event in found if isinstance(event, Completed)} == {lives[0][0].owner}


@pytest.mark.parametrize("is_handled", [True, False])
async def test_an_event_whose_handling_failed_is_shown_again(bus, vhost, is_handled):
    """By the same listener, after its connection has broken; one that was handled is left out then."""
    clock = SystemClock()
    (_, first), (_, second) = life(clock), life(clock)
    async with proxy_before(vhost) as (proxy, url), BusListener(url, queue="shop.images") as listener:
        await bus.publish(first)
        async with aclosing(listener.events()) as events, asyncio.timeout(LIMIT_S):
            assert (await anext(events)).image_id == first.subject
            if is_handled:
                await bus.publish(second)
                assert (await anext(events)).image_id == second.subject
        proxy.cut()
        async with aclosing(listener.events()) as events, asyncio.timeout(LIMIT_S):
            expected = second if is_handled else first
            assert (await anext(events)).image_id == expected.subject


async def test_a_listener_comes_back_after_the_broker(bus, vhost):
    clock = SystemClock()
    async with (
        proxy_before(vhost) as (proxy, url),
        BusListener(url, queue="shop.images") as listener,
        aclosing(listener.events()) as events,
    ):
        for _ in range(3):
            _, completed = life(clock)
            waiting = asyncio.ensure_future(anext(events))
            proxy.cut()
            await bus.publish(completed)
            async with asyncio.timeout(LIMIT_S):
                event = await waiting
            assert (type(event), event.image_id) == (Completed, completed.subject)


@pytest.mark.long
async def test_the_documented_rights_are_enough(bus, vhost, rabbitmq):
    """A publisher that may not declare or read, a listener that may not publish; one with a wrong password."""
    name = vhost.rpartition("/")[2]
    rights = documented_rights()
    users = {role: User(f"{role}-{name}", "secret", vhost, rights[role]) for role in ("newsletter", "dashboard")}
    await asyncio.to_thread(rabbitmq.add_users, *users.values())
    urls = {role: user.url for role, user in users.items()}
    orders = Recorder()
    async with (
        bus.consume(WorkQueue.INTAKE, orders, concurrency=1),
        BusPublisher(urls["newsletter"], source="newsletter") as publisher,
        BusListener(urls["dashboard"], queue="dashboard.images") as listener,
        aclosing(listener.events()) as events,
    ):
        image_id = await publisher.order("a lighthouse", owner="ada")
        await orders.wait_for(1)
        _, completed = life(SystemClock())
        await bus.publish(completed)
        assert (await anext(events)).image_id == completed.subject

    assert orders.ids == [image_id]
    with pytest.raises(BusError, match="cannot be used"):
        async with BusListener(urls["newsletter"], queue="newsletter.images"):
            pass
    with pytest.raises(NotConfirmed):
        async with BusPublisher(urls["dashboard"], source="dashboard", timeout_s=0.1) as publisher:
            await publisher.order("a lighthouse", owner="ada")
    with pytest.raises(Misconfigured, match="refuses the user"):
        async with BusListener(replace(users["dashboard"], password="wrong").url, queue="dashboard.images"):
            pass


async def test_names_begin_with_the_prefix_of_the_deployment(vhost):
    orders = Recorder()
    async with (
        RabbitBus.open(vhost, name="test", prefix="blue.", retry_delays=(0.1,), timeout_s=LIMIT_S) as bus,
        bus.consume(WorkQueue.INTAKE, orders, concurrency=1),
        BusPublisher(vhost, source="shop", prefix="blue.") as publisher,
        BusListener(vhost, queue="shop.images", prefix="blue.") as listener,
        aclosing(listener.events()) as events,
    ):
        await publisher.order("a lighthouse", owner="ada")
        await orders.wait_for(1)
        _, completed = life(SystemClock())
        await bus.publish(completed)
        assert (await anext(events)).image_id == completed.subject


def test_an_outdated_event_is_not_new():
    def deleted(revision: int) -> ImageDeleted:
        return ImageDeleted.model_validate(
            {"id": f"a.{revision}", "subject": "a", "revision": revision, "data": {"id": "a"}}
        )

    seen = SeenRevisions()

    def handle(revision: int) -> bool:
        event = deleted(revision)
        is_new = seen.is_new(event)
        assert seen.is_new(event) == is_new, "a question changes nothing"
        if is_new:
            seen.remember(event)
        return is_new

    assert [handle(revision) for revision in (1, 3, 2, 3, 4)] == [True, True, False, False, True]


def test_ids_sort_by_time():
    ids = [new_id() for _ in range(100)]

    assert len(set(ids)) == 100
    assert all(each[14] == "7" and each[19] in "89ab" for each in ids)
    assert ids[0][:8] <= ids[-1][:8]


@pytest.mark.clients
@pytest.mark.timeout(300)
async def test_an_order_by_bus_becomes_a_picture(tmp_path, vhost):
    async with inference_double() as inference:
        inference.will(status(422, "not this one"))
        async with (
            separate(tmp_path, vhost, INFERENCE_SERVICE_URL=inference.url),
            BusListener(vhost, queue="shop.images") as listener,
            BusPublisher(vhost, source="shop") as publisher,
            aclosing(listener.events()) as events,
        ):
            refused = await publisher.order("a lighthouse", owner="ada", width=64, height=64)
            assert isinstance(event := await anext(events), Failed)
            assert (event.image_id, event.image.error.code) == (refused, "inference_refused")
            image_id = await publisher.order("a lighthouse", owner="ada", width=64, height=64)
            assert isinstance(event := await anext(events), Completed)
            assert (event.image_id, event.owner, event.image.width) == (image_id, "ada", 64)
