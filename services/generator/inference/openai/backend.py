"""Client of a server with OpenAI's route for images.

Nothing is left to stop when the connection has ended: such a server stops by itself, or not at all.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import aiohttp

from common.application.capabilities import Capabilities
from common.domain.errors import BadImage, Denied, InferenceError, Misconfigured, Rejected, Transient, Unreachable
from common.runtime.bounded_read import read_body
from services.generator.inference.answers import DENIED_STATUSES, error_body, status_error, timed_out
from services.generator.inference.capabilities_cache import RETRY_INTERVAL_S, CapabilitiesCache
from services.generator.inference.encoded_pictures import decoded_picture, decoded_preview
from services.generator.inference.event_stream import server_sent_events
from services.generator.inference.job import Job
from services.generator.inference.openai.failures import envelope_of, error_in_answer
from services.generator.inference.openai.order import PARTIAL_IMAGES, can_stream, order_body
from services.generator.inference.openai.server import SERVERS, OpenAiServer, has_route, maker_in_url, probe
from services.generator.inference.port import BackendOptions, GeneratedImage, OnPreview, OnProgress
from services.generator.inference.service_client import ServiceClient, ServiceUrl, authorization, read_result
from services.generator.inference.supported import require_supported

log = logging.getLogger(__name__)

_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/webp"})


class OpenAiBackend:
    """One server. `?model=a,b` in the URL names its models, `?server=localai` its kind, if the probe is mistaken.

    The path of the URL is that of OpenAI's SDK, `/v1` as a rule, which is added to a URL without a path.

    Raises:
        Misconfigured: no kind of server has this name.
    """

    def __init__(self, options: BackendOptions) -> None:
        self._options = options
        parsed = ServiceUrl.parse(options.url, "model", "server")
        base = parsed.base if parsed.has_path else f"{parsed.base}/v1"
        self._client = ServiceClient(
            options.http, base=base, headers=authorization(parsed, options.api_key), clock=options.clock
        )
        self._models = tuple(filter(None, parsed.options.get("model", "").split(",")))
        self._maker = maker_in_url(parsed.options.get("server", ""))
        if "server" in parsed.options and self._maker is None:
            raise Misconfigured(f"server must be one of {', '.join(SERVERS)}", code="bad_setting")
        self._capabilities = CapabilitiesCache(self._ask, options.clock)
        self._server: OpenAiServer | None = None
        self._has_painted = False  # so the route exists

    async def capabilities(self, *, fresh: bool = False) -> Capabilities:
        return await self._capabilities.get(fresh=fresh)

    async def generate(self, job: Job, on_progress: OnProgress, on_preview: OnPreview | None = None) -> GeneratedImage:
        try:
            async with asyncio.timeout(self._options.timeout_s):
                server = await self._known_server(job)
                generated = await self._generate(job, server, on_preview)
        except TimeoutError as error:
            raise timed_out(self._options.timeout_s) from error
        except (Denied, Transient, Unreachable):
            self._server, self._has_painted = None, False  # it may have restarted, as another program too
            raise
        self._has_painted = True
        return generated

    async def stop(self, job: Job) -> None:
        """Nothing to do: the end of the connection has stopped it, or nothing can."""

    async def _ask(self) -> Capabilities:
        self._server = await probe(self._client, maker=self._maker, models=self._models)
        return self._server.capabilities()

    async def _known_server(self, job: Job) -> OpenAiServer:
        """The server, if it can honour the job; a model that it did not have may have come meanwhile."""
        if self._server is None or self._server.ignores_models:
            await self._capabilities.get(fresh=True)
        assert self._server is not None
        try:
            require_supported(job, self._server.capabilities())
        except Rejected:
            await self._capabilities.get(max_age_s=RETRY_INTERVAL_S)
            require_supported(job, self._server.capabilities())
        return self._server

    async def _generate(self, job: Job, server: OpenAiServer, on_preview: OnPreview | None) -> GeneratedImage:
        body = order_body(job, server, with_previews=on_preview is not None and can_stream(job, server))
        accept = "text/event-stream, application/json" if body.get("stream") else "application/json, image/*"
        headers = {"Accept": accept}
        async with self._client.open("POST", "/images/generations", body=body, headers=headers) as response:
            if response.status != 200:
                raise await self._response_error(job, response)
            if response.content_type == "text/event-stream":
                return await self._read_stream(response, on_preview)
            if response.content_type in _IMAGES:  # vLLM-Omni answers so to other formats
                return GeneratedImage(await read_body(response, max_bytes=self._options.max_bytes))
            return await self._result(await read_result(response, max_bytes=self._options.max_bytes))

    async def _read_stream(self, response: aiohttp.ClientResponse, on_preview: OnPreview | None) -> GeneratedImage:
        # each partial image may be as large as the last one; base64 makes 4 characters of 3 bytes
        limit = (PARTIAL_IMAGES + 1) * self._options.max_bytes * 4 // 3 + 1_000_000
        async for event, data in server_sent_events(response, max_bytes=limit):
            if data.get("error"):
                raise error_in_answer(data["error"])
            if event.endswith(".partial_image"):
                if on_preview is not None and (content := await decoded_preview(data.get("b64_json"))):
                    on_preview(content)
            elif event.endswith(".completed"):
                return GeneratedImage(await decoded_picture(data.get("b64_json"), max_bytes=self._options.max_bytes))
        raise BadImage("the inference service ended its stream without a picture")

    async def _result(self, answer: Any) -> GeneratedImage:
        if not isinstance(answer, dict):
            raise BadImage("the answer of the inference service is not a JSON object")
        data = answer.get("data")
        if not isinstance(data, list) or not data or not isinstance(data[0], dict):
            if answer.get("error"):
                raise error_in_answer(answer["error"])
            raise BadImage("the answer of the inference service holds no picture")
        if not data[0].get("b64_json") and isinstance(url := data[0].get("url"), str):
            return GeneratedImage(await self._picture_at(url))
        return GeneratedImage(await decoded_picture(data[0].get("b64_json"), max_bytes=self._options.max_bytes))

    async def _picture_at(self, url: str) -> bytes:
        if url[:5].lower() == "data:":
            return await decoded_picture(url, max_bytes=self._options.max_bytes)
        return await self._client.fetch_picture(url, max_bytes=self._options.max_bytes)

    async def _response_error(self, job: Job, response: aiohttp.ClientResponse) -> InferenceError:
        """A 404 is about the model of one owner, or about a route that is missing for all."""
        text = await error_body(response)
        error = envelope_of(text)
        if error.is_unpaid:
            return Denied(error.message)
        denied = DENIED_STATUSES
        if response.status == 404 and (error.names_a_field or await self._is_about_the_job(job)):
            denied -= {404}
        return status_error(response, text, self._options.clock, denied=denied)

    async def _is_about_the_job(self, job: Job) -> bool:
        """Whether the route exists, so that a 404 means something that the job names."""
        return self._has_painted or await has_route(self._client) or await self._lacks(job.model)

    async def _lacks(self, model: str) -> bool:
        """Whether the server lists models, and this one is not one of them."""
        listed = await self._client.ask("/models")
        data = listed.get("data") if isinstance(listed, dict) else None
        names = [each.get("id") for each in data if isinstance(each, dict)] if isinstance(data, list) else []
        return bool(names) and model not in names
