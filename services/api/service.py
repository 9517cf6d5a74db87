"""The api as a service: reads the event log and serves HTTP until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import aiohttp

from common.bus.port import Bus
from common.capabilities import CapabilitiesOf
from common.clock import Clock
from common.errors import Misconfigured
from common.media.port import Media
from common.outbox import Outbox
from common.serving import serving
from common.settings import Settings
from common.store.port import Store
from services.api.app import build_app
from services.api.context import Context
from services.api.generations import SOURCE
from services.api.live import LiveEvents

log = logging.getLogger(__name__)

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@asynccontextmanager
async def api_running(
    settings: Settings, *, bus: Bus, store: Store, media: Media, clock: Clock, inference_url: str | None
) -> AsyncIterator[int]:
    """Serve; yields the port. Inside, requests are answered; after, the websockets were told and all is closed.

    Raises:
        Misconfigured: the address is taken, or open to others without identity.
    """
    _require_safe_address(settings)
    live = LiveEvents(
        bus,
        store,
        clock,
        backlog=settings.event_backlog,
        lookback_s=settings.event_lookback,
        poll_s=settings.poll_interval,
    )
    outbox = Outbox(
        bus=bus,
        store=store,
        clock=clock,
        source=SOURCE,
        media_url=settings.media_prefix,
        retention=timedelta(days=settings.retention_days),
    )
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        capabilities = (
            CapabilitiesOf(http, url=inference_url, api_key=settings.inference_service_api_key, clock=clock)
            if inference_url
            else None
        )
        context = Context(
            settings=settings,
            bus=bus,
            store=store,
            media=media,
            outbox=outbox,
            live=live,
            capabilities=capabilities,
            clock=clock,
        )
        reading = group.create_task(live.run())
        async with serving(
            build_app(context), host=settings.api_host, port=settings.api_port, stop_timeout_s=settings.grace_period
        ) as port:
            yield port
        reading.cancel()


async def run_api(
    settings: Settings,
    *,
    bus: Bus,
    store: Store,
    media: Media,
    clock: Clock,
    inference_url: str | None,
    stopping: asyncio.Event,
) -> None:
    """Serve until `stopping` is set."""
    async with api_running(
        settings, bus=bus, store=store, media=media, clock=clock, inference_url=inference_url
    ) as port:
        log.info("listening on http://%s:%d", settings.api_host, port)
        await stopping.wait()


def _require_safe_address(settings: Settings) -> None:
    if settings.api_host in LOOPBACK:
        return
    if not settings.allow_anonymous:
        raise Misconfigured(
            f"API_HOST: {settings.api_host} is open to others, but no identity is set up; "
            "set one up, or set ALLOW_ANONYMOUS=true to let everyone act as one owner",
            code="bad_setting",
        )
    log.warning("ALLOW_ANONYMOUS: everyone who reaches %s acts as the one owner", settings.api_host)
