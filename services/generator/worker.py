"""The generator as a service: takes commands until it is told to stop, then finishes or gives back what is in hand."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket

import aiohttp

from common.application.resources import Resources
from common.application.write_behind import WriteBehind
from common.bus.port import Bus, Consumer, DeadLetter, Done, Outcome, WorkQueue
from common.messages import CancelImage, Event, GenerateImage, Tick
from common.runtime.settings import Settings
from services.generator.circuit import Circuit
from services.generator.context import GenerationContext
from services.generator.generate import generate
from services.generator.inference.native import InferenceClient

log = logging.getLogger(__name__)

SOURCE = "generator"
STOPS_WORK = frozenset({"image.cancelled", "image.deleted"})


async def run_generator(
    settings: Settings, resources: Resources, *, inference_url: str, stopping: asyncio.Event
) -> None:
    """Work until `stopping` is set and what is in hand has ended, or the grace period is over."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        inference = InferenceClient(
            http,
            url=inference_url,
            api_key=settings.inference_service_api_key,
            timeout_s=settings.inference_timeout,
            max_bytes=settings.max_image_file_size,
            clock=resources.clock,
        )
        circuit = Circuit(
            failures=settings.circuit_failures,
            pause_s=settings.circuit_pause,
            reachable=inference.capabilities.refresh,
        )
        write_behind = WriteBehind(resources.store)
        context = GenerationContext(
            store=resources.store,
            outbox=resources.outbox(settings, source=SOURCE, write_behind=write_behind),
            media=resources.media,
            inference=inference,
            circuit=circuit,
            settings=settings,
            clock=resources.clock,
            token=secrets.token_hex(8),
            worker=f"{socket.gethostname()}:{os.getpid()}",
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(write_behind.run())
            await _consume(context, resources.bus, settings, stopping)
            write_behind.close()


async def _consume(context: GenerationContext, bus: Bus, settings: Settings, stopping: asyncio.Event) -> None:
    async def handle(message: GenerateImage | CancelImage | Tick | DeadLetter) -> Outcome:
        if not isinstance(message, GenerateImage):
            return Done()  # the queue holds nothing else
        return await generate(message, context)

    def on_event(event: Event) -> None:
        context.stop_work(event.subject)

    async with (
        bus.listen(STOPS_WORK, on_event),
        bus.work(WorkQueue.GENERATE, handle, concurrency=settings.generator_concurrency) as consumer,
        asyncio.TaskGroup() as group,
    ):
        watching = group.create_task(context.circuit.run(consumer))
        log.info("taking work, %d at once", settings.generator_concurrency)
        await stopping.wait()
        await _finish(consumer, settings.grace_period)
        watching.cancel()


async def _finish(consumer: Consumer, grace_s: float) -> None:
    if consumer.in_hand:
        log.info("finishing %d images", consumer.in_hand)
    if not await consumer.drain(grace_s):
        log.warning("giving back %d images", consumer.in_hand)
