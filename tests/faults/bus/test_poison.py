"""Messages with odd properties, or that kill their consumers."""

import aio_pika
import aiormq

from common.bus.port import WorkQueue
from common.bus.rabbitmq.topology import COMMANDS, DEAD_QUEUE, ROUTES
from common.messages import encode
from tests.contract.bus.support import Recorder, generate_command, has_dead_letters, order_command, until
from tests.faults.bus.support import open_rabbit_bus, raw_channel


async def test_a_command_with_odd_properties_does_not_stop_consuming(vhost: str):
    handler = Recorder()
    good = order_command()
    async with open_rabbit_bus(vhost) as bus, bus.consume(WorkQueue.INTAKE, handler, concurrency=1):
        connection = await aiormq.connect(vhost)
        channel = await connection.channel()
        for odd in ({"priority": 200}, {"headers": {"failures": "many", "x-death": 5, "reason": bytearray(b"\xff")}}):
            properties = aiormq.spec.Basic.Properties(**odd)
            for body in (encode(order_command()), b"poison"):
                await channel.basic_publish(body, exchange=COMMANDS, routing_key="generate", properties=properties)
        await connection.close()
        await bus.send(good)
        await handler.wait_for(3)
        await until(lambda: has_dead_letters(bus, 2))

    assert handler.ids[-1] == good.id


async def test_a_message_past_the_delivery_limit_is_a_dead_letter(vhost: str):
    """The delivery limit is reached because each consumer of the message dies."""
    async with open_rabbit_bus(vhost) as bus:
        await bus.send(generate_command("image-1"))
        for _ in range(21):  # 4.3 does not count a nack, only a lost consumer
            await until(lambda: _lost(vhost, ROUTES[WorkQueue.GENERATE].queue))
        await until(lambda: has_dead_letters(bus, 1))
        (letter,) = await bus.dead_letters(10)
        dead_letter_handler = Recorder()
        async with bus.consume(WorkQueue.DEAD, dead_letter_handler, concurrency=1):
            await dead_letter_handler.wait_for(1)

    assert (letter.reason, letter.queue) == ("delivery_limit", WorkQueue.GENERATE)
    assert letter.died_at is not None
    assert dead_letter_handler.received == [letter]


async def test_dead_letters_can_be_listed_past_the_delivery_limit(vhost: str):
    async with open_rabbit_bus(vhost) as bus:
        async with raw_channel(vhost) as channel:
            await channel.default_exchange.publish(aio_pika.Message(b"x"), DEAD_QUEUE)
        for _ in range(25):
            assert len(await bus.dead_letters(10)) == 1


async def _lost(url: str, name: str) -> bool:
    """Get a message and disconnect, as a consumer that dies; also True if no message is left."""
    async with raw_channel(url) as channel:
        queue = await channel.get_queue(name)
        return await queue.get(fail=False) is not None or queue.declaration_result.message_count == 0
