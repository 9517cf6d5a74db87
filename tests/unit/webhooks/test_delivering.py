"""The courier, with receivers of every kind."""

import asyncio
import json
import socket
from dataclasses import replace

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from common.application.webhooks.deliveries import DUE, KIND, Deliveries, DeliveryState, delivery_key
from common.domain.errors import Unreadable
from common.runtime.clock import SystemClock
from tests.making import an_image
from tests.servers.process import free_ports
from tests.unit.webhooks.support import (
    OLD_SECRET,
    SECRET,
    break_off,
    break_off_within_the_body,
    break_off_within_the_headers,
    delivering,
    drip,
    hang,
    never_ending,
    receiving,
    recorded,
    speak_another_protocol,
    status,
    tried,
)
from tests.waiting import until

LIFE = ("image.started", "image.completed")


async def test_both_keys_verify_and_only_the_id_stays_over_tries(store):
    clock = SystemClock()
    deliveries = Deliveries(store, clock)
    async with receiving(status(500), status(204)) as receiver:
        (delivery_id,) = await recorded(store, clock, receiver.url())
        async with delivering(store, clock, WEBHOOK_RETRIES="1100ms"):
            delivery = await tried(deliveries, delivery_id, 2)

    assert (delivery.state, delivery.due) == (DeliveryState.DELIVERED, None)
    assert receiver.ids == [delivery_id] * 2
    first, second = receiver.got
    assert first[1] == second[1]
    for name in ("webhook-timestamp", "webhook-signature"):
        assert first[0][name] != second[0][name]
    for headers, body in receiver.got:
        for secret in (SECRET, OLD_SECRET):
            event = Webhook(secret).verify(body, headers)
            assert (event["type"], event["data"]["prompt"]) == ("image.completed", "a lighthouse")
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(body + b" ", headers)
    assert await store.list_entries(DUE) == []


async def test_a_log_leaves_out_what_a_newer_release_has_written(store):
    clock = SystemClock()
    deliveries, image = Deliveries(store, clock), an_image(created_at=clock.now(), webhook="https://hook.test/")
    first, second = await recorded(store, clock, image.webhook, image=image, types=LIFE)
    entry = await store.get_entry(KIND, delivery_key(first))
    await store.put_entry(replace(entry, revision=entry.revision + 1, data={**entry.data, "state": "in orbit"}))

    assert [delivery.id for delivery in await deliveries.readable_of_image(image.id)] == [second]
    with pytest.raises(Unreadable):
        await deliveries.of_image(image.id)


@pytest.mark.parametrize(
    ("handler", "outcome"),
    [
        (status(302, Location="/elsewhere"), 302),
        (status(308, Location="/elsewhere"), 308),
        (status(429), 429),
        (status(429, Retry_After="soon"), 429),
        (status(403), 403),
        (break_off, "connection_closed"),
        (break_off_within_the_headers, "connection_closed"),
        (speak_another_protocol, "ClientResponseError"),
        (hang, "timeout"),
        (drip, "timeout"),
    ],
    ids=lambda value: value.__name__ if callable(value) else value,
)
async def test_what_is_no_success_is_tried_again(store, clock, deliveries, handler, outcome):
    async with receiving(handler) as receiver:
        (delivery_id,) = await recorded(store, clock, receiver.url())
        timeout = "300ms" if outcome == "timeout" else "30s"
        async with delivering(store, clock, WEBHOOK_TIMEOUT=timeout):
            delivery = await tried(deliveries, delivery_id)

    assert delivery.state is DeliveryState.OPEN
    assert (delivery.tries[0].status or delivery.tries[0].error) == outcome
    assert len(receiver.got) == 1
    assert 5 <= (delivery.due_at - clock.now()).total_seconds() <= 6


@pytest.mark.parametrize(
    ("handler", "expected_s"),
    [
        (status(429, Retry_After="7200"), 7200),
        (status(503, Retry_After="Wed, 15 Jan 2025 14:00:00 GMT"), 7200),  # it is noon
        (status(429, Retry_After="99999999"), 86_400),
    ],
    ids=["seconds", "a date", "too long"],
)
async def test_a_receiver_says_when_it_is_tried_again(store, clock, deliveries, handler, expected_s):
    async with receiving(handler) as receiver:
        (delivery_id,) = await recorded(store, clock, receiver.url())
        async with delivering(store, clock):
            delivery = await tried(deliveries, delivery_id)

    assert delivery.state is DeliveryState.OPEN
    assert (delivery.due_at - clock.now()).total_seconds() == expected_s


@pytest.mark.parametrize("handler", [never_ending, break_off_within_the_body])
async def test_status_200_is_a_success_whatever_the_body_is(store, clock, deliveries, handler):
    async with receiving(handler) as receiver:
        (delivery_id,) = await recorded(store, clock, receiver.url())
        async with delivering(store, clock):
            delivery = await tried(deliveries, delivery_id)

    assert delivery.state is DeliveryState.DELIVERED


async def test_a_410_disables_the_address_of_the_owner_until_a_replay(store, clock, deliveries):
    async with receiving(status(410), status(204)) as receiver:
        (first,) = await recorded(store, clock, receiver.url())
        async with delivering(store, clock):
            assert (await tried(deliveries, first)).state is DeliveryState.DISABLED
            (second,) = await recorded(store, clock, receiver.url())
            await until(lambda: _is(deliveries, second, DeliveryState.DISABLED), pause_s=0.01)
            other = an_image(owner="another", created_at=clock.now(), webhook=receiver.url())
            (third,) = await recorded(store, clock, receiver.url(), image=other)
            await tried(deliveries, third)
            assert await deliveries.replay(second)
            await until(lambda: _is(deliveries, second, DeliveryState.DELIVERED), pause_s=0.01)

    assert receiver.ids == [first, third, second]
    assert not await deliveries.replay("unknown.1")


async def _is(deliveries, delivery_id, state):
    return (await deliveries.get(delivery_id)).state is state


async def test_the_schedule_ends_after_three_days(store, clock, deliveries):
    """A receiver that never answers with success: the delays are those of the documents, and then it has failed."""
    delays_s = []
    async with receiving(status(500)) as receiver:
        (delivery_id,) = await recorded(store, clock, receiver.url())
        async with delivering(store, clock) as courier:
            for count in range(1, 11):
                delivery = await tried(deliveries, delivery_id, count)
                if delivery.due_at is not None:
                    delay_s = (delivery.due_at - clock.now()).total_seconds()
                    delays_s.append(delay_s)
                    clock.advance(delay_s)
                    courier.wake()

    assert delivery.state is DeliveryState.FAILED
    nominal = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
    assert all(least <= delay <= least * 1.2 for least, delay in zip(nominal, delays_s, strict=True))
    assert set(receiver.ids) == {delivery_id}


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00::1", "64:ff9b::a00:1"]
)
async def test_a_name_with_one_private_address_is_not_connected_to(store, clock, deliveries, address):
    def look_up(_host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in ("93.184.215.14", address)]

    (delivery_id,) = await recorded(store, clock, "https://hooks.example.org/")
    async with delivering(store, clock, look_up=look_up):
        delivery = await tried(deliveries, delivery_id)

    assert [each.error for each in delivery.tries] == ["address_refused"]


async def test_the_address_that_was_checked_is_connected_to(store, clock, deliveries):
    """A name that has another address at each look-up: there is one look-up, and Host is still the name."""
    looked_up = []

    def look_up(host, port, **_):
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{len(looked_up)}", port))]

    async with receiving() as receiver, receiving(host="127.0.0.2", port=receiver.port) as internal:
        (delivery_id,) = await recorded(store, clock, receiver.url("rebinding.test"))
        async with delivering(store, clock, look_up=look_up):
            await tried(deliveries, delivery_id)

    assert looked_up == ["rebinding.test"]
    assert receiver.ids == [delivery_id]
    assert receiver.got[0][0]["Host"] == f"rebinding.test:{receiver.port}"
    assert internal.got == []


async def test_a_closed_port_and_an_unknown_name_are_tried_again(store, clock, deliveries):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    (refused,) = await recorded(store, clock, f"http://127.0.0.1:{free_ports(1)[0]}/")
    (missing,) = await recorded(store, clock, "https://hooks.test/")
    async with delivering(store, clock, look_up=unknown):
        found = [(await tried(deliveries, each)).tries[0].error for each in (refused, missing)]

    assert found == ["connection_refused", "name_not_resolved"]


async def test_a_host_that_hangs_delays_no_other(store, clock, deliveries):
    """40 deliveries to a host that hangs come first; those to the other host arrive meanwhile."""
    async with receiving(hang) as slow, receiving() as quick:
        for _ in range(40):
            await recorded(store, clock, slow.url("slow.test"))
        clock.advance(1)
        expected = [(await recorded(store, clock, quick.url("quick.test")))[0] for _ in range(10)]
        async with delivering(store, clock, WEBHOOK_TIMEOUT="2s", WEBHOOK_CONCURRENCY="6"):
            await until(lambda: len(quick.got) == 10, limit_s=30, pause_s=0.01)
            assert len(slow.got) <= 4  # the share of one host, none of whose tries has ended

    assert sorted(quick.ids) == sorted(expected)


async def test_first_tries_keep_the_order_of_an_images_events(store, clock, deliveries):
    """The first try of `started` is held up; `completed` is sent when that try has ended, though without success."""
    go_on = asyncio.Event()

    async def wait_then_fail(request):
        await go_on.wait()
        return await status(500)(request)

    async with receiving(wait_then_fail, status(204)) as receiver:
        started, completed = await recorded(store, clock, receiver.url(), types=LIFE)
        async with delivering(store, clock) as courier:
            await until(lambda: len(receiver.got) == 1, pause_s=0.01)
            for _ in range(3):
                clock.advance(1.5)
                courier.wake()
                await until(lambda: _waits(deliveries, completed), pause_s=0.01)
            assert receiver.ids == [started]
            go_on.set()
            assert (await tried(deliveries, started)).state is DeliveryState.OPEN
            clock.advance(1.5)
            await tried(deliveries, completed)

    assert receiver.ids[:2] == [started, completed]


async def _waits(deliveries, delivery_id):
    delivery = await deliveries.get(delivery_id)
    return delivery.due_at > deliveries.clock.now() and not delivery.tries


async def test_the_longest_texts_fit_into_20_kb(store, clock, deliveries):
    """Prompts of 4,000 characters of four bytes each are cut, and the body says so."""
    async with receiving() as receiver:
        image = an_image(created_at=clock.now(), prompt="🦊" * 4000, negative_prompt='"' * 4000, webhook=receiver.url())
        (delivery_id,) = await recorded(store, clock, receiver.url(), image=image)
        async with delivering(store, clock):
            await tried(deliveries, delivery_id)

    body = receiver.got[0][1]
    assert len(body) < 20_000
    assert json.loads(body)["data"]["shortened"] is True
    assert json.loads(body)["data"]["id"] == image.id


async def test_two_couriers_share_the_deliveries(store, clock, deliveries):
    async with receiving() as receiver:
        expected = [(await recorded(store, clock, receiver.url()))[0] for _ in range(30)]
        async with delivering(store, clock), delivering(store, clock):
            await until(lambda: len(receiver.got) >= 30, pause_s=0.01)

    assert sorted(receiver.ids) == sorted(expected)
    assert all(
        delivery.state is DeliveryState.DELIVERED for delivery in [await deliveries.get(id_) for id_ in expected]
    )
