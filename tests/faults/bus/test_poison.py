"""Orders that are odd, or that their workers die of."""

import aio_pika
import aiormq

from common.bus.port import WorkQueue
from common.bus.rabbitmq.topology import DEAD_QUEUE, ROUTES
from common.messages import encode
from tests.contract.bus.support import Recorder, has_letters, order, until
from tests.faults.bus.support import opened, raw_channel


async def test_an_order_with_odd_properties_is_a_dead_letter_or_an_order_like_any(vhost: str):
    worker = Recorder()
    good = order()
    async with opened(vhost) as bus, bus.consume(WorkQueue.GENERATE, worker, concurrency=1):
        connection = await aiormq.connect(vhost)
        channel = await connection.channel()
        for odd in ({"priority": 200}, {"headers": {"failures": "many", "x-death": 5, "reason": bytearray(b"\xff")}}):
            properties = aiormq.spec.Basic.Properties(**odd)
            queue = ROUTES[WorkQueue.GENERATE].queue
            await channel.basic_publish(encode(order()), routing_key=queue, properties=properties)
            await channel.basic_publish(b"poison", routing_key=queue, properties=properties)
        await connection.close()
        await bus.send(good)
        await worker.saw(3)
        await until(lambda: has_letters(bus, 2))

    assert worker.ids[-1] == good.id


async def test_a_message_that_the_broker_gave_up_is_a_dead_letter_of_its_queue(vhost: str):
    """One worker after the other has died of it."""
    async with opened(vhost) as bus:
        await bus.send(order("image-1"))
        for _ in range(21):  # 4.3 does not count what is given back, only what a worker lost
            await until(lambda: _lost(vhost, ROUTES[WorkQueue.GENERATE].queue))
        await until(lambda: has_letters(bus, 1))
        (letter,) = await bus.dead_letters(10)
        undertaker = Recorder()
        async with bus.consume(WorkQueue.DEAD, undertaker, concurrency=1):
            await undertaker.saw(1)

    assert (letter.reason, letter.queue) == ("delivery_limit", "image.generate")
    assert letter.died_at is not None
    assert undertaker.seen == [letter]


async def test_the_dead_letters_bear_being_looked_at_more_often_than_the_limit(vhost: str):
    async with opened(vhost) as bus:
        async with raw_channel(vhost) as channel:
            await channel.default_exchange.publish(aio_pika.Message(b"x"), DEAD_QUEUE)
        for _ in range(25):
            assert len(await bus.dead_letters(10)) == 1


async def _lost(url: str, name: str) -> bool:
    """Take a message and go, as a worker that dies; True as well when none is left."""
    async with raw_channel(url) as channel:
        queue = await channel.get_queue(name)
        return await queue.get(fail=False) is not None or queue.declaration_result.message_count == 0
