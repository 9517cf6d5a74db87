"""The api as a service: reads the event log and serves HTTP until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from common.application.capabilities import CapabilitiesOf
from common.application.resources import Resources
from common.application.write_behind import WriteBehind
from common.runtime.serving import serving
from common.runtime.settings import Settings
from services.api.app import build_app
from services.api.auth import identity
from services.api.auth.identity import Identity
from services.api.auth.jwks import Jwks
from services.api.auth.signing import Signing
from services.api.context import Context
from services.api.events.live import LiveEvents
from services.api.events.queue_positions import QueuePositions
from services.api.limits.admission import Admission
from services.api.routes.generations import SOURCE

log = logging.getLogger(__name__)


@asynccontextmanager
async def api_running(settings: Settings, resources: Resources, *, inference_url: str | None) -> AsyncIterator[int]:
    """Serve; yields the port. Inside, requests are answered; after, the websockets were told and all is closed.

    Raises:
        Misconfigured: the address is taken, or identity is not set up as it must be.
    """
    identity.require_valid_identity(settings)
    _warn_of_what_is_open(settings)
    store, clock = resources.store, resources.clock
    signing = Signing(settings, clock)
    live = LiveEvents(
        resources.bus,
        store,
        clock,
        backlog=settings.event_backlog,
        lookback_s=settings.event_lookback,
        poll_s=settings.poll_interval,
        data=signing.data,
    )
    queue_positions = QueuePositions(store, live, clock, interval_s=settings.places_interval)
    write_behind = WriteBehind(store)
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        capabilities = (
            CapabilitiesOf(http, url=inference_url, api_key=settings.inference_service_api_key, clock=clock)
            if inference_url
            else None
        )
        jwks = Jwks(http, url=settings.jwt_jwks_url, clock=clock) if settings.jwt_jwks_url else None
        context = Context(
            settings=settings,
            bus=resources.bus,
            store=store,
            media=resources.media,
            outbox=resources.outbox(settings, source=SOURCE, write_behind=write_behind),
            live=live,
            queue_positions=queue_positions,
            capabilities=capabilities,
            clock=clock,
            identity=Identity(settings, store=store, clock=clock, jwks=jwks),
            signing=signing,
            admission=Admission(settings, store=store, clock=clock),
        )
        group.create_task(write_behind.run())
        running = [group.create_task(live.run()), group.create_task(queue_positions.run())]
        if jwks is not None:
            running.append(group.create_task(jwks.run()))
        async with serving(
            build_app(context),
            host=settings.api_host,
            port=settings.api_port,
            stop_timeout_s=settings.grace_period,
            idle_timeout_s=settings.idle_timeout,
        ) as port:
            yield port
        for task in running:
            task.cancel()
        write_behind.close()


async def run_api(
    settings: Settings, resources: Resources, *, inference_url: str | None, stopping: asyncio.Event
) -> None:
    """Serve until `stopping` is set."""
    async with api_running(settings, resources, inference_url=inference_url) as port:
        log.info("listening on http://%s:%d", settings.api_host, port)
        await stopping.wait()


def _warn_of_what_is_open(settings: Settings) -> None:
    if not settings.has_identity and settings.api_host not in identity.LOOPBACK:
        log.warning("ALLOW_ANONYMOUS: everyone who reaches %s acts as the one owner", settings.api_host)
    if settings.jwt_jwks_url and settings.jwt_jwks_url.startswith("http:"):
        log.warning("JWT_JWKS_URL is not https: who can change an answer on the way can make tokens")
