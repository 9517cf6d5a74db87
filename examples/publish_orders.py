"""Orders pictures by RabbitMQ from another service. An order survives a broker that is away, and this process.

BUS_URL=amqp://guest:guest@127.0.0.1/ python examples/publish_orders.py ada "a lighthouse" "a harbour"
"""

import asyncio
import os
import sys

from darkroom_client.bus import BusPublisher, SqliteOutbox


async def main(owner: str, prompts: list[str]) -> None:
    outbox = SqliteOutbox("orders.db")  # or your own database: see docs/clients.md
    async with BusPublisher(os.environ["BUS_URL"], source="newsletter", outbox=outbox) as publisher:
        for prompt in prompts:
            image_id = await publisher.order(prompt, owner=owner, width=512, height=512)
            print(image_id)  # it is stored, and will be sent even if the broker is away now
        await publisher.flush()  # only a script waits for this


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
