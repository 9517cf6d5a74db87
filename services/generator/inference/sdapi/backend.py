"""Client of a server with routes under `/sdapi/v1`.

These programs paint one picture at a time, go on without their client, and have one interrupt for whatever they paint.
So this client sends one order at a time, waits for an idle server first, and interrupts only its own order.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Final

import aiohttp

from common.application.capabilities import Capabilities
from common.domain.errors import Denied, InferenceError, Rejected, Transient, Unreachable
from services.generator.inference.answers import DENIED_STATUSES, response_error, timed_out
from services.generator.inference.background import beside
from services.generator.inference.capabilities_cache import RETRY_INTERVAL_S, CapabilitiesCache
from services.generator.inference.job import Job
from services.generator.inference.own_timeout import OwnTimeout
from services.generator.inference.port import BackendOptions, GeneratedImage, OnPreview, OnProgress
from services.generator.inference.sdapi.loaded_model import has_model, load_model
from services.generator.inference.sdapi.order import order_body, result
from services.generator.inference.sdapi.program import Program, Server, ask_checkpoints, probe
from services.generator.inference.sdapi.progress import INTERVAL_S, is_working_on, server_state, watch
from services.generator.inference.service_client import (
    ServiceClient,
    ServiceUrl,
    basic,
    bearer,
    read_result,
)
from services.generator.inference.supported import require_supported

log = logging.getLogger(__name__)

_PATIENCE_S: Final = 20.0  # for the work of others; then the order waits in the server, where it cannot be cancelled
_STOP_S: Final = 1.5  # for an interrupt that is lost between two phases of an order
_STOP_INTERVAL_S: Final = 0.1
_KEEP_S: Final = 5.0  # how long an order that nobody follows stays open, in case that it is to be stopped


@dataclass(eq=False, slots=True)
class SentOrder:
    """An order at the server; while its answer is due, the work is ours or waits behind that of others."""

    job: Job
    answer: asyncio.Task[GeneratedImage]
    was_idle: bool  # the server, when the order was sent


class SdApiBackend:
    """One server; the key is `user:password` for Basic authentication, or a bearer token for a proxy before it."""

    def __init__(self, options: BackendOptions) -> None:
        self._options = options
        parsed = ServiceUrl.parse(options.url)
        credentials = parsed.credentials or (options.api_key if options.api_key and ":" in options.api_key else None)
        headers = basic(credentials) if credentials else bearer(options.api_key)
        self._client = ServiceClient(options.http, base=parsed.base, headers=headers, clock=options.clock)
        self._capabilities = CapabilitiesCache(self._ask, options.clock)
        self._server: Server | None = None
        self._turn = asyncio.Lock()
        self._sent: dict[str, SentOrder] = {}

    async def capabilities(self, *, fresh: bool = False) -> Capabilities:
        return await self._capabilities.get(fresh=fresh)

    async def generate(self, job: Job, on_progress: OnProgress, on_preview: OnPreview | None = None) -> GeneratedImage:
        async with self._turn:
            limit = OwnTimeout.begin(self._options.clock, self._options.timeout_s)
            try:
                async with asyncio.timeout(self._options.timeout_s):
                    return await self._generate(job, on_progress, on_preview)
            except TimeoutError as error:
                if limit.is_on_time():
                    await self.stop(job)
                raise timed_out(self._options.timeout_s) from error
            except (Denied, Transient, Unreachable):
                self._server = None  # it may have restarted, as another program too
                raise

    async def stop(self, job: Job) -> None:
        sent = self._sent.pop(job.remote_id, None)
        if sent is None or sent.answer.done():
            return
        try:
            async with asyncio.timeout(_STOP_S):
                await self._interrupt(sent)
        except TimeoutError:
            log.debug("the work of image %s goes on at the inference service", job.image_id)
        finally:
            sent.answer.cancel()

    async def _ask(self) -> Capabilities:
        self._server = await probe(self._client)
        return self._server.capabilities()

    async def _known_server(self) -> Server:
        if self._server is None:
            await self._capabilities.get(fresh=True)
        assert self._server is not None
        return self._server

    async def _server_for(self, job: Job) -> Server:
        """The server, if it can honour the job. Its models are asked for each time: it paints with another silently."""
        checkpoints = await ask_checkpoints(self._client)
        try:
            server = replace(await self._known_server(), checkpoints=checkpoints)
            require_supported(job, server.capabilities())
        except Rejected:  # a sampler may have come since the server was asked
            await self._capabilities.get(max_age_s=RETRY_INTERVAL_S)
            server = replace(await self._known_server(), checkpoints=checkpoints)
            require_supported(job, server.capabilities())
        return server

    async def _generate(self, job: Job, on_progress: OnProgress, on_preview: OnPreview | None) -> GeneratedImage:
        server = await self._server_for(job)
        was_idle = await self._wait_until_ready(job, server) if server.has_progress else False
        sent = SentOrder(job, asyncio.create_task(self._send(job, server)), was_idle)
        sent.answer.add_done_callback(_retrieve)
        self._sent[job.remote_id] = sent
        try:
            if not (server.has_task_ids or was_idle):
                return await asyncio.shield(sent.answer)  # whose progress it is cannot be known
            async with beside(watch(job, self._client, server, on_progress, on_preview)):
                return await asyncio.shield(sent.answer)
        finally:
            self._leave(sent)

    def _leave(self, sent: SentOrder) -> None:
        """Keep an order that is not answered open for a while: `stop` may follow, and has to know that it is open."""
        if sent.answer.done():
            self._sent.pop(sent.job.remote_id, None)
        else:
            asyncio.get_running_loop().call_later(_KEEP_S, self._give_up, sent)

    def _give_up(self, sent: SentOrder) -> None:
        if self._sent.get(sent.job.remote_id) is sent:
            del self._sent[sent.job.remote_id]
            sent.answer.cancel()

    async def _wait_until_ready(self, job: Job, server: Server) -> bool:
        """Whether the server became idle, with the model of the job in its memory.

        Raises:
            Unreachable: SD.Next still loads its first model.
            Transient: SD.Next cannot load the model.
        """
        was_idle = await self._wait_until_idle()
        checkpoint = server.checkpoints.get(job.model) if server.program is Program.SDNEXT else None
        if checkpoint is None:
            return was_idle
        if await has_model(self._client):
            return was_idle
        if not was_idle:
            raise Unreachable("SD.Next is loading a model and has none in its memory yet")
        log.info("SD.Next has no model in its memory: it loads %r", checkpoint.title)
        await load_model(self._client, checkpoint.title, limit_s=self._options.timeout_s)
        return await self._wait_until_idle()

    async def _wait_until_idle(self) -> bool:
        """Whether the server became idle. An order that waits here can be cancelled, one that waits there cannot."""
        deadline = self._options.clock.monotonic() + _PATIENCE_S
        while not (await server_state(self._client)).is_idle:
            if self._options.clock.monotonic() >= deadline:
                return False
            await asyncio.sleep(INTERVAL_S)
        return True

    async def _send(self, job: Job, server: Server) -> GeneratedImage:
        async with self._client.open("POST", "/sdapi/v1/txt2img", body=order_body(job, server)) as response:
            if response.status != 200:
                raise await self._response_error(response)
            answer = await read_result(response, max_bytes=self._options.max_bytes)
        if server.has_progress and await self._was_interrupted():
            raise Transient("somebody interrupted the inference service, so the picture is not finished")
        return await result(answer, job, server, max_bytes=self._options.max_bytes)

    async def _response_error(self, response: aiohttp.ClientResponse) -> InferenceError:
        """SD.Next answers 404 to a sampler that it does not have, which is the owner's error and not ours."""
        if response.status == 404:
            await probe(self._client)  # raises Denied if the routes are gone
        return await response_error(response, self._options.clock, denied=DENIED_STATUSES - {404})

    async def _was_interrupted(self) -> bool:
        """An interrupt, ours or another's, makes a 200 with the picture as it is. The next order resets the mark."""
        try:
            return (await server_state(self._client)).is_interrupted
        except InferenceError:
            return False

    async def _interrupt(self, sent: SentOrder) -> None:
        """Repeat it until the order is answered: an interrupt between two phases of an order is lost (SD.Next)."""
        while not sent.answer.done():
            try:
                server = await self._known_server()
                if not (server.has_task_ids or sent.was_idle):
                    return  # what it paints may be the work of others
                if await is_working_on(sent.job, self._client, server, was_idle=sent.was_idle):
                    async with self._client.open("POST", "/sdapi/v1/interrupt", limit_s=_STOP_S):
                        log.debug("interrupted image %s", sent.job.image_id)
            except InferenceError as error:
                log.debug("not interrupted: %s", error.detail)
            await asyncio.wait([sent.answer], timeout=_STOP_INTERVAL_S)


def _retrieve(answer: asyncio.Task[GeneratedImage]) -> None:
    """An order that nobody follows may fail, which asyncio would report."""
    if not answer.cancelled():
        answer.exception()
