"""The api as a service: reads the event log and serves HTTP until it is stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from common.application.batches import Batches
from common.application.resources import Resources
from common.application.write_behind import WriteBehind
from common.bus.port import Bus
from common.runtime.addresses import LOOPBACK, url_of
from common.runtime.clock import Clock
from common.runtime.serving import serving
from common.runtime.settings import Settings
from services.api.app import build_app
from services.api.auth import identity
from services.api.auth.identity import Identity
from services.api.auth.jwks import Jwks
from services.api.auth.signing import Signing
from services.api.auth.tickets import Tickets
from services.api.context import Context
from services.api.conversion import PictureConverter
from services.api.events.client import Clients
from services.api.events.live import LiveEvents
from services.api.events.model_changes import ModelChanges
from services.api.events.queue_positions import QueuePositions
from services.api.events.recent_outcomes import RecentOutcomes
from services.api.events.recent_times import RecentTimes
from services.api.events.waits import Waits
from services.api.limits.admission import Admission
from services.api.presenter import Presenter
from services.api.routes.generations import SOURCE

log = logging.getLogger(__name__)


@asynccontextmanager
async def api_running(settings: Settings, resources: Resources) -> AsyncIterator[int]:
    """Serve inside the context; yields the port. At its end the websockets are closed and all tasks have ended.

    Raises:
        Misconfigured: the address is taken, or the settings of identity are invalid.
    """
    identity.require_valid_identity(settings)
    _warn_of_insecure_settings(settings)
    write_behind = WriteBehind(resources.store)
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        jwks = Jwks(http, url=settings.jwt_jwks_url, clock=resources.clock) if settings.jwt_jwks_url else None
        context = _context(settings, resources, write_behind=write_behind, jwks=jwks)
        group.create_task(write_behind.run())
        running = (
            context.live.run(),
            context.queue_positions.run(),
            context.model_changes.run(),
            context.outcomes.run(context.live),
        )
        endless = [group.create_task(each) for each in running]
        if jwks is not None:
            endless.append(group.create_task(jwks.run()))
        async with serving(
            build_app(context),
            host=settings.api_host,
            port=settings.api_port,
            stop_timeout_s=settings.grace_period,
            idle_timeout_s=settings.idle_timeout,
        ) as port:
            yield port
        for task in endless:
            task.cancel()
        write_behind.close()


async def run_api(settings: Settings, resources: Resources, *, stopping: asyncio.Event) -> None:
    """Serve until `stopping` is set."""
    async with api_running(settings, resources) as port:
        log.info("listening on %s", url_of(settings.api_host, port))
        await stopping.wait()


def _context(
    settings: Settings,
    resources: Resources,
    *,
    write_behind: WriteBehind,
    jwks: Jwks | None,
) -> Context:
    bus, store, clock = resources.bus, resources.store, resources.clock
    fleet = resources.fleet(settings)
    outbox = resources.outbox(settings, source=SOURCE, fleet=fleet, write_behind=write_behind)
    admission = Admission(settings, store=store, clock=clock, fleet=fleet)
    signing, times = Signing(settings, clock), RecentTimes(clock)
    presenter = Presenter(outbox.events.presenter, signing, store, clock, times, settings.concurrent_requests, fleet)
    waits = Waits(store, clock, poll_s=settings.poll_interval, max_per_owner=settings.requests_waiting)
    live = _live_events(bus, clock, settings, presenter, waits)
    slots, interval_s = settings.concurrent_requests, settings.places_interval
    queue_positions = QueuePositions(store, live, times, clock, interval_s=interval_s, slots=slots, fleet=fleet)
    return Context(
        settings=settings,
        clock=clock,
        bus=bus,
        store=store,
        media=resources.media,
        outbox=outbox,
        batches=Batches(store, outbox, admission.record_other),
        fleet=fleet,
        identity=Identity(settings, store=store, clock=clock, jwks=jwks),
        signing=signing,
        tickets=Tickets(store, clock),
        admission=admission,
        waits=waits,
        live=live,
        queue_positions=queue_positions,
        model_changes=ModelChanges(fleet, live),
        outcomes=RecentOutcomes(clock),
        clients=Clients(max_per_owner=settings.websockets_per_owner),
        presenter=presenter,
        converter=PictureConverter(max_pixels=settings.max_image_pixels),
    )


def _live_events(bus: Bus, clock: Clock, settings: Settings, presenter: Presenter, waits: Waits) -> LiveEvents:
    return LiveEvents(
        bus,
        clock,
        backlog=settings.event_backlog,
        lookback_s=settings.event_lookback,
        data=presenter.event_data,
        on_final=waits.hint,
    )


def _warn_of_insecure_settings(settings: Settings) -> None:
    if not settings.has_identity and settings.api_host not in LOOPBACK:
        log.warning("ALLOW_ANONYMOUS: everyone who reaches %s acts as the one owner", settings.api_host)
    if settings.jwt_jwks_url and settings.jwt_jwks_url.startswith("http:"):
        log.warning("JWT_JWKS_URL is not https: an attacker on the network can forge the keys that verify tokens")
