"""Orders of other services, through a generator and a janitor."""

import asyncio
import json
import logging
import re
import time
from datetime import timedelta
from email.utils import formatdate
from functools import partial
from typing import Any

import pytest

from common.application.fleet.announcements import HEARTBEATS
from common.domain.requests import GenerationRequest
from common.messages import decode
from tests.announcing import FakeGenerator
from tests.borders.generator.orders import an_order, is_final
from tests.inference_double import body, paint, status
from tests.waiting import until


@pytest.mark.long_unless("memory", "rabbitmq-the newsletter")
@pytest.mark.border(rule="A1")
@pytest.mark.parametrize("subject", ["the newsletter of May", "", "0193a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b"])
async def test_an_order_is_its_id_whatever_its_subject(bench, subject):
    orders = [an_order(bench, subject=subject) for _ in range(10)]

    await asyncio.gather(*(bench.bus.send(order) for order in orders))
    for order in orders:
        await until(partial(is_final, bench, order.id))

    assert {(await bench.store.get(order.id)).status for order in orders} == {"completed"}
    assert sorted(bench.inference.keys) == sorted(order.id for order in orders)


@pytest.mark.border(rule="A1")
async def test_an_order_in_capitals_and_its_repeat_are_one_image(bench):
    order = an_order(bench)
    spelled = an_order(bench, image_id=order.id.upper())

    await asyncio.gather(bench.bus.send(spelled), bench.bus.send(order), bench.bus.send(spelled))
    await until(lambda: is_final(bench, order.id))

    image = await bench.store.get(order.id)
    assert (image.status, bench.inference.keys) == ("completed", [order.id])
    assert bench.files() == [image.image_file, image.thumbnail]
    assert await bench.media.get(image.image_file)


@pytest.mark.long_unless("memory", "rabbitmq-the same")
@pytest.mark.border(rule="A2")
@pytest.mark.usefixtures("second_generator")
@pytest.mark.parametrize(
    "again",
    [{}, {"id": str.upper}, {"time": timedelta(seconds=1)}, {"subject": "another"}],
    ids=["the same", "in capitals", "later", "about another subject"],
)
async def test_an_order_that_comes_often_at_once_is_painted_once(bench, again):
    order = an_order(bench, time=bench.clock.now())
    fields = (
        {"id": order.id.upper()}
        if "id" in again
        else {"time": order.time + again["time"]}
        if "time" in again
        else again
    )
    repeat = an_order(bench, image_id=order.id, **{"time": order.time, **fields})

    await asyncio.gather(*(bench.bus.send(each) for each in [order, repeat] * 4))
    await until(lambda: is_final(bench, order.id))
    await bench.bus.send(last := an_order(bench))  # all others were delivered before it
    await until(lambda: is_final(bench, last.id))

    image = await bench.store.get(order.id)
    assert (image.status, image.attempts, bench.inference.keys) == ("completed", 1, [order.id, last.id])
    assert {image.image_file, image.thumbnail} < set(bench.files())


@pytest.mark.long_unless("memory", "rabbitmq-{'owner': 'ADA'}")
@pytest.mark.border(rule="A6")
@pytest.mark.parametrize(
    "fields", [{"source": "shop"}, {"owner": "bob"}, {"owner": "ADA"}, {"source": "api"}], ids=repr
)
async def test_an_order_with_the_id_of_anothers_image_changes_nothing(bench, fields):
    bench.inference.always(bench.inference.hold)
    order = an_order(bench)
    await bench.bus.send(order)
    await bench.inference.held.wait()
    before = await bench.store.get(order.id)

    await bench.bus.send(an_order(bench, image_id=order.id, subject="another", **fields))
    # the generator holds the first delivery, so that the second one waits for its outcome or is refused
    bench.inference.released.set()
    await until(lambda: is_final(bench, order.id))

    after = await bench.store.get(order.id)
    assert (after.status, after.owner, after.source, after.attempts) == ("completed", before.owner, before.source, 1)


@pytest.mark.border(rule="A6")
async def test_a_repeat_of_another_sender_is_a_dead_letter(bench):
    order = an_order(bench)
    await bench.bus.send(order)
    await until(lambda: is_final(bench, order.id))

    await bench.bus.send(an_order(bench, image_id=order.id, owner="bob"))

    async def is_dead() -> bool:
        return bool(await bench.bus.dead_letters(1))

    await until(is_dead)
    [letter] = await bench.bus.dead_letters(1)
    assert letter.reason.startswith("id_taken: ")
    assert json.loads(letter.body)["owner"] == "bob"
    assert (await bench.store.get(order.id)).status == "completed"


def a_second_ago(_request, _order):
    date = formatdate(time.time() - 1, usegmt=True)
    return status(503, headers={"Retry-After": date})(_request, _order)


DUE_AT_ONCE = {
    "zero": status(503, headers={"Retry-After": "0"}),
    "a second ago": a_second_ago,
    "1970": status(429, headers={"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}),
    "zeros": status(408, headers={"Retry-After": "000"}),
    "no picture": body(b""),
    "a broken stream": body(b"event: progress", "text/event-stream"),
}


@pytest.mark.long_unless("memory", "rabbitmq-1970")
@pytest.mark.border(rule="B2")
@pytest.mark.parametrize("answer", DUE_AT_ONCE)
async def test_a_retry_that_is_due_at_once_is_not_lost(bench, caplog, answer):
    """Its command is sent while that of the attempt is still in hand. Without reconcile, which would find it later."""
    caplog.set_level(logging.INFO)
    refused = set()

    async def first_refused(request, order):
        key = request.headers["Idempotency-Key"].removesuffix("-2")
        if key in refused:
            return await paint(request, order)
        refused.add(key)
        return await DUE_AT_ONCE[answer](request, order)

    bench.inference.always(first_refused)
    orders = [an_order(bench) for _ in range(6)]

    await asyncio.gather(*(bench.bus.send(order) for order in orders))
    for order in orders:
        await until(partial(is_final, bench, order.id))

    images = [await bench.store.get(order.id) for order in orders]
    assert [(image.status, image.attempts) for image in images] == [("completed", 2)] * 6
    assert re.findall("never sent|lost in the broker", caplog.text) == []  # what reconcile says of commands


@pytest.mark.border(rule="A7")
async def test_an_order_without_a_time_is_an_order_of_now(bench):
    order = an_order(bench)
    assert decode(order.model_dump_json(exclude={"time"}, exclude_none=True).encode()).time is None

    await bench.bus.send(order)
    await until(lambda: is_final(bench, order.id))

    assert (await bench.store.get(order.id)).status == "completed"


async def test_our_own_command_names_source_and_owner(bench):
    """So the janitor knows the sender of its dead letter, which fails the image."""
    sent = []
    real = bench.bus.send

    async def send(command, **options):
        sent.append(command)
        await real(command, **options)

    bench.bus.send = send
    try:
        image_id = await bench.order(owner="ada")
    finally:
        del bench.bus.send
    [command] = sent
    assert (command.id, command.source, command.owner) == (image_id, "api", "ada")


async def is_announced(made) -> bool:
    return any("catalogue" in entry.data for entry in await made.store.list_entries(HEARTBEATS))


@pytest.mark.parametrize("capabilities", [{"models": [{"id": "sdxl", "max_steps": 30}], "samplers": ["Euler"]}])
async def test_an_order_that_nothing_can_paint_is_refused(bench):
    """Of a model that was never announced, of an unknown sampler, beyond a limit; one of a model of yesterday waits."""
    await (await FakeGenerator(bench.store, bench.clock).offer("yesterday")).stop()
    await until(partial(is_announced, bench))
    fields: dict[str, dict[str, Any]] = {
        "unknown_model": {"model": "other"},
        "unknown_sampler": {"sampler": "LCM"},
        "not_supported": {"steps": 31},
    }
    request: dict[str, Any] = {"prompt": "a lighthouse", "width": 64, "height": 64}
    wrong = {code: an_order(bench, data=GenerationRequest(**request, **more)) for code, more in fields.items()}
    known = an_order(bench, data=GenerationRequest(**request, model="yesterday"))
    for order in [*wrong.values(), known]:
        await bench.bus.send(order)

    async def all_dead():
        return len(await bench.bus.dead_letters(10)) == len(wrong)

    await until(partial(is_set_waiting, bench, known.id))
    await until(all_dead)
    found = {decode(letter.body).id: letter.reason for letter in await bench.bus.dead_letters(10)}
    assert {found[order.id].partition(":")[0] for order in wrong.values()} == set(fields)
    assert [await bench.store.get(order.id) for order in wrong.values()] == [None, None, None]
    assert "sdxl" in found[wrong["unknown_model"].id]
    assert bench.inference.orders == []


async def is_set_waiting(made, image_id) -> bool:
    image = await made.store.get(image_id)
    return image is not None and image.is_waiting
