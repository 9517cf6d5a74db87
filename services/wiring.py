"""Wiring that the standalone services and the embedded mode share.

It opens the resources of a process by the URLs in the settings, and serves the reference inference server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from common.application.deployment import deployment_id
from common.application.media_owner import claim_media
from common.application.resources import Resources
from common.bus.connect import open_bus
from common.domain.errors import Misconfigured, Unavailable
from common.media.connect import open_media
from common.media.port import Media
from common.runtime.addresses import LOOPBACK, url_of
from common.runtime.clock import SystemClock
from common.runtime.lifetime import StoppedEarly
from common.runtime.serving import serving
from common.runtime.settings import Settings
from common.store.connect import open_store, store_location
from common.store.port import Store

if TYPE_CHECKING:
    from services.inference.engine import Engine

T = TypeVar("T")

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.5  # between two tries to open store or media
MAX_PAUSE_S: Final = 5.0


@asynccontextmanager
async def open_resources(settings: Settings, *, name: str, stopping: asyncio.Event) -> AsyncIterator[Resources]:
    """Open store, media and bus for the service of this name; they are closed in reverse order, the store last.

    Raises:
        StoppedEarly: `stopping` was set while store or media were waited for.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        store = await _wait_for(
            f"the store at {store_location(settings.store_url)}", lambda: _open_store(settings), stack, stopping
        )
        media = await _wait_for(
            f"the media in {settings.media_root}", lambda: _open_media(settings, store), stack, stopping
        )
        bus = await stack.enter_async_context(
            open_bus(settings, name=name, clock=clock, deployment=await deployment_id(store))
        )
        yield Resources(bus, store, media, clock)


def server_names(settings: Settings, *, host: str) -> Collection[str]:
    """The names by which a server at this address may be reached, beside the api; empty for any.

    On loopback the names of this machine are always allowed, and no others unless they are listed.
    """
    return {*settings.allowed_hosts, *LOOPBACK} if host in LOOPBACK else settings.allowed_hosts


@asynccontextmanager
async def _open_store(settings: Settings) -> AsyncIterator[Store]:
    async with open_store(settings.store_url, timeout_s=settings.store_timeout) as store:
        await deployment_id(store)  # may be its first write, which a store without a primary does not accept
        yield store


@asynccontextmanager
async def _open_media(settings: Settings, store: Store) -> AsyncIterator[Media]:
    async with open_media(settings.media_root, settings) as media:
        await claim_media(store, media)
        yield media


async def _wait_for(
    what: str, opened: Callable[[], AbstractAsyncContextManager[T]], stack: AsyncExitStack, stopping: asyncio.Event
) -> T:
    """Open it, again and again while it does not answer: a database may start later than its services."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await stack.enter_async_context(opened())
        except Unavailable as error:
            log.warning("waiting for %s: %s", what, error.detail)
        try:
            async with asyncio.timeout(pause_s):
                await stopping.wait()
        except TimeoutError:
            pause_s = min(pause_s * 2, MAX_PAUSE_S)
        else:
            raise StoppedEarly


def _engine(settings: Settings) -> Engine:
    if settings.inference_engine == "painter":
        from services.inference.painter import PainterEngine

        return PainterEngine(step_delay_s=settings.painter_step_delay)
    if settings.models is None:
        raise Misconfigured("MODELS: not set; give the folder of the models", code="bad_setting")
    log.info("importing torch and diffusers ...")
    try:
        from services.inference.diffusers_engine.engine import open_engine
    except ImportError as error:
        raise Misconfigured(
            f"INFERENCE_ENGINE: diffusers needs the packages of the extra, pip install 'darkroom[diffusers]': {error}",
            code="bad_setting",
        ) from error
    return open_engine(Path(settings.models), max_loaded=settings.models_loaded, clock=SystemClock())


@asynccontextmanager
async def serve_inference(settings: Settings, *, host: str) -> AsyncIterator[str]:
    """Serve the reference inference server; yields its base URL."""
    from services.inference.app import build_app  # only the processes that paint load Pillow

    app = build_app(
        await asyncio.to_thread(_engine, settings),  # torch and diffusers take seconds to import
        api_key=settings.inference_service_api_key,
        concurrency=settings.inference_concurrency,
        allowed_hosts=server_names(settings, host=host),
        clock=SystemClock(),
    )
    # a disconnected client cancels its handler, which stops the painting
    async with serving(
        app, host=host, port=settings.inference_port, stop_timeout_s=settings.grace_period, cancel_handlers=True
    ) as port:
        yield url_of(host, port)
