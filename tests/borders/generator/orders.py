"""Orders and cancels as another service sends them, with a bus to send them on."""

import itertools
from contextlib import asynccontextmanager

from common.bus.memory import MemoryBus
from common.bus.rabbitmq.bus import RabbitBus
from common.domain.images import new_image_id
from common.domain.requests import GenerationRequest
from common.messages import CancelImage, GenerateImage

_numbers = itertools.count()


@asynccontextmanager
async def open_bus(kind, request, settings, clock):
    if kind == "memory":
        async with MemoryBus(name="test", clock=clock, log_size=10_000, retry_delays=settings.retry_delays) as bus:
            yield bus
    else:
        url = request.getfixturevalue("vhost")
        async with RabbitBus.open(url, name="test", retry_delays=settings.retry_delays, timeout_s=15) as bus:
            yield bus


def an_order(made, image_id=None, **fields) -> GenerateImage:
    request = GenerationRequest(prompt="a lighthouse", width=64, height=64)
    image_id = image_id or new_image_id(made.clock.now())
    return GenerateImage(**{"id": image_id, "source": "newsletter", "owner": "ada", "data": request} | fields)


def a_cancel(image_id, **fields) -> CancelImage:
    return CancelImage(**{"id": f"cancel-{next(_numbers)}", "source": "newsletter", "subject": image_id} | fields)


async def is_final(made, image_id) -> bool:
    image = await made.store.get(image_id)
    return image is not None and image.status.is_final
