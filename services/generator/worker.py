"""The generator as a service: it consumes commands until it is stopped.

On a stop it takes no new command, finishes the images in progress, and gives back those that take longer than the
grace period.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import aiohttp

from common.application.deployment import deployment_id
from common.application.fleet.reader import Fleet
from common.application.intake import Intake
from common.application.outbox import Outbox
from common.application.quota_store import QuotaStore
from common.application.resources import Resources
from common.application.write_behind import WriteBehind
from common.bus.port import Bus, Consumer, DeadLetter, Done, Handler, Outcome, WorkQueue
from common.domain.texts import clean_text
from common.domain.turns import Line
from common.messages import Command, Event, GenerateImage, Tick
from common.provenance.connect import marker_of
from common.provenance.marks import Marker
from common.runtime.settings import Settings
from common.runtime.tracing.http import client_tracing
from services.generator.announcer import SOURCE, Announcer
from services.generator.backends.backend import Backend, connected
from services.generator.backends.backends import Backends
from services.generator.backends.definition import BackendDefinition
from services.generator.backends.gate import Gate
from services.generator.context import GenerationContext, retry_while_unavailable
from services.generator.generate import generate
from services.generator.media_pause import SharedPause
from services.generator.orders import take_in

log = logging.getLogger(__name__)

PUBLISHER_QUOTA = "orders"  # the kind of its entries in the store
CONCURRENT_INTAKES = 10  # each is a few queries of the store
ABORTING_EVENTS = frozenset({"image.cancelled", "image.deleted"})


async def run_generator(
    settings: Settings, resources: Resources, *, backends: Sequence[BackendDefinition], stopping: asyncio.Event
) -> None:
    """Run until `stopping` is set and the images in progress have ended, or the grace period is over.

    Raises:
        Misconfigured: no inference back end has the scheme of a URL, or C2PA_CERT and C2PA_KEY cannot sign.
    """
    marker = await asyncio.to_thread(marker_of, settings, resources.clock.now())
    # no cookies: those of one back end would be sent to another port of its host
    connector, cookies = aiohttp.TCPConnector(limit=0), aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(connector=connector, cookie_jar=cookies, trace_configs=client_tracing()) as http:
        connect = partial(connected, http=http, settings=settings, clock=resources.clock)
        all_of_them = Backends([Backend(each, connect(each), settings) for each in backends])
        write_behind = WriteBehind(resources.store)
        deployment = await retry_while_unavailable(lambda: deployment_id(resources.store))
        announcer = Announcer(
            resources.store,
            resources.bus,
            resources.clock,
            backends=all_of_them,
            settings=settings,
            worker=clean_text(f"{socket.gethostname()}:{os.getpid()}", 100),
        )
        fleet = resources.fleet(settings)
        outbox = resources.outbox(settings, source=SOURCE, fleet=fleet, write_behind=write_behind)
        context = _context(
            settings, resources, announcer=announcer, outbox=outbox, fleet=fleet, deployment=deployment, marker=marker
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(write_behind.run())
            group.create_task(announcer.run(stopping))
            await _consume(context, resources.bus, announcer, stopping)
            write_behind.close()


def _context(
    settings: Settings,
    resources: Resources,
    *,
    announcer: Announcer,
    outbox: Outbox,
    fleet: Fleet,
    deployment: str,
    marker: Marker,
) -> GenerationContext:
    quota = QuotaStore(
        kind=PUBLISHER_QUOTA,
        limit=settings.publisher_requests_per_hour,
        store=resources.store,
        clock=resources.clock,
    )
    line = Line(settings.concurrent_requests, settings.publisher_waiting_requests, "p")
    return GenerationContext(
        store=resources.store,
        fleet=fleet,
        intake=Intake(quota, resources.store, line, fleet),
        outbox=outbox,
        media=resources.media,
        backends=announcer.backends,
        settings=settings,
        clock=resources.clock,
        worker=announcer.worker,
        deployment=deployment,
        marker=marker,
    )


async def _consume(context: GenerationContext, bus: Bus, announcer: Announcer, stopping: asyncio.Event) -> None:
    backends, settings, limit = context.backends, context.settings, context.backends.slots

    def handler(handle: Callable[[GenerateImage, GenerationContext], Awaitable[Outcome]]) -> Handler:
        async def handle_command(message: Command | Tick | DeadLetter) -> Outcome:
            if not isinstance(message, GenerateImage):
                return Done()  # the queue holds no other messages
            return await handle(message, context)

        return handle_command

    def on_event(event: Event) -> None:
        context.abort(event.subject)

    async with (
        bus.subscribe(ABORTING_EVENTS, on_event),
        # requests are recorded also while the inference service is down: no circuit pauses this consumer
        bus.consume(WorkQueue.INTAKE, handler(take_in), concurrency=CONCURRENT_INTAKES) as intake,
        bus.consume(WorkQueue.GENERATE, handler(generate), concurrency=limit, pool=settings.generator_pool) as consumer,
        asyncio.TaskGroup() as group,
    ):
        shared = SharedPause(consumer)
        gate = Gate(backends, shared.view("inference"), limit=limit, on_circuit=announcer.announce_soon)
        watching = [
            *(group.create_task(backend.circuit.run(gate)) for backend in backends.all),
            group.create_task(gate.run()),
            group.create_task(context.media_pause.run(shared.view("media"))),
            group.create_task(context.later_turns.run()),
        ]
        log.info("taking work of the pool %s, at most %d images at once", settings.generator_pool, limit)
        await stopping.wait()
        await shared.pause("stop")  # before what waits here returns to the queue, or it would come back at once
        backends.close()
        await asyncio.gather(intake.drain(settings.grace_period), _finish(consumer, settings.grace_period))
        for task in watching:
            task.cancel()


async def _finish(consumer: Consumer, grace_s: float) -> None:
    if consumer.in_flight:
        log.info("finishing %d images", consumer.in_flight)
    if not await consumer.drain(grace_s):
        log.warning("giving back %d images", consumer.in_flight)
