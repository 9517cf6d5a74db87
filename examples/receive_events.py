"""Receives the end of every image by RabbitMQ, on a durable queue: what happens meanwhile waits there.

BUS_URL=amqp://guest:guest@127.0.0.1/ python examples/receive_events.py
"""

import asyncio
import os
import sys

from darkroom_client import Cancelled, Completed, Deleted, Failed
from darkroom_client.bus import BusListener


async def main(count: int | None) -> None:
    """Print events, for ever or until there were `count`."""
    async with BusListener(os.environ["BUS_URL"], queue="newsletter.images") as listener:
        print("listening", flush=True)
        async for event in listener.events():
            match event:
                case Completed(image=image, owner=owner):
                    print(f"{owner}: {image.id} is at {image.image_url}", flush=True)
                case Failed(image=image, owner=owner):
                    print(f"{owner}: {image.id} failed: {image.error.code if image.error else ''}", flush=True)
                case Cancelled() | Deleted():
                    print(f"{event.owner}: there is no {event.image_id}", flush=True)
            if count is not None and (count := count - 1) == 0:
                return


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else None))
