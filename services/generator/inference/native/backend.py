"""Client of an inference service that implements Darkroom's own HTTP contract.

Source: docs/inference-http.md.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import aiohttp

from common.application.capabilities import MAX_CAPABILITIES_BYTES, Capabilities, Feature, parse_capabilities
from common.domain.errors import Denied, InferenceError, Rejected, Transient
from common.domain.images import Format
from common.domain.texts import clean_text
from common.runtime.bounded_read import read_body
from services.generator.inference.answers import (
    CONNECT_S,
    DENIED_STATUSES,
    connection_errors,
    response_error,
    timed_out,
)
from services.generator.inference.capabilities_cache import CapabilitiesCache
from services.generator.inference.encoded_pictures import decoded_picture, decoded_preview
from services.generator.inference.event_stream import server_sent_events
from services.generator.inference.job import Job
from services.generator.inference.port import BackendOptions, GeneratedImage, OnPreview, OnProgress
from services.generator.inference.service_client import bearer

log = logging.getLogger(__name__)

IMAGES: Final = "image/png, image/jpeg, image/webp"
_CAPABILITIES_S: Final = 2.0
# the codes of an `error` event; a stream has a route, so its `not_found` is about the order
_DENIED_CODES: Final = frozenset({"unauthorized", "forbidden", "payment_required"})
_REJECTED_CODES: Final = frozenset({"invalid", "invalid_request", "refused", "unprocessable"})
_REFUSES_US: Final = frozenset({401, 402, 403, 407})
_ALWAYS: Final = (Feature.HIRES_FIX, Feature.NEGATIVE_PROMPT, Feature.CANCEL)  # unless a model says otherwise
_WITH_CAPABILITIES: Final = (*_ALWAYS, Feature.PROGRESS, Feature.PREVIEWS, Feature.ADOPTION)


class NativeBackend:
    """One inference service; all paintings of the process share its HTTP session."""

    def __init__(self, options: BackendOptions) -> None:
        self._options = options
        base = f"{options.url.rstrip('/')}/inference"
        self._url, self._capabilities_url = f"{base}/images/generations", f"{base}/capabilities"
        self._authorization = bearer(options.api_key)
        self._capabilities = CapabilitiesCache(self._ask, options.clock)

    async def capabilities(self, *, fresh: bool = False) -> Capabilities:
        return await self._capabilities.get(fresh=fresh)

    async def generate(self, job: Job, on_progress: OnProgress, on_preview: OnPreview | None = None) -> GeneratedImage:
        try:
            async with asyncio.timeout(self._options.timeout_s):
                with connection_errors():
                    return await self._paint(job, on_progress, on_preview)
        except TimeoutError as error:
            raise timed_out(self._options.timeout_s) from error

    async def stop(self, job: Job) -> None:
        """Nothing to do: the end of the connection has stopped it."""

    async def _ask(self) -> Capabilities:
        """The service need not have the route; one that has it can stream its progress."""
        timeout = aiohttp.ClientTimeout(total=_CAPABILITIES_S)
        with connection_errors():
            async with self._options.http.get(
                self._capabilities_url, headers=self._authorization, timeout=timeout, allow_redirects=False
            ) as response:
                if response.status in _REFUSES_US or response.status >= 500:
                    raise await response_error(response, self._options.clock)
                found = None
                if response.status == 200:
                    found = parse_capabilities(await read_body(response, max_bytes=MAX_CAPABILITIES_BYTES))
        features = _WITH_CAPABILITIES if found else _ALWAYS
        return (found or Capabilities()).model_copy(update={"dialect": "native", "features": features})

    async def _paint(self, job: Job, on_progress: OnProgress, on_preview: OnPreview | None) -> GeneratedImage:
        known = await self._capabilities.known()
        can_stream = known is not None and Feature.PROGRESS in (known.features or ())
        headers = {
            **self._authorization,
            "Accept": f"text/event-stream, {_accepted(job)}" if can_stream else _accepted(job),
            "Accept-Encoding": "identity",  # a small body must not unpack into a large one
            "Idempotency-Key": _idempotency_key(job),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        async with self._options.http.post(
            self._url, json=_request_body(job), headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise await self._response_error(response)
            if response.content_type == "text/event-stream":
                return await self._read_stream(response, on_progress, on_preview)
            content = await read_body(response, max_bytes=self._options.max_bytes)
            return GeneratedImage(content, seed=_seed(response.headers.get("X-Seed")))

    async def _response_error(self, response: aiohttp.ClientResponse) -> InferenceError:
        """A 404 of a route that exists is about the order, such as a model that the service does not have."""
        denied = DENIED_STATUSES
        if response.status == 404 and await self._has_route():
            denied -= {404}
        return await response_error(response, self._options.clock, denied=denied)

    async def _has_route(self) -> bool:
        """Whether orders have a route: a GET of it is answered by 405, and a GET of a missing one by 404."""
        timeout = aiohttp.ClientTimeout(total=_CAPABILITIES_S)
        async with self._options.http.get(
            self._url, headers=self._authorization, timeout=timeout, allow_redirects=False
        ) as response:
            return response.status == 405

    async def _read_stream(
        self, response: aiohttp.ClientResponse, on_progress: OnProgress, on_preview: OnPreview | None
    ) -> GeneratedImage:
        # base64 makes 4 characters of 3 bytes; all other events of a stream are small
        limit = self._options.max_bytes * 4 // 3 + 1_000_000
        async for event, data in server_sent_events(response, max_bytes=limit):
            if event == "progress":
                on_progress(*_progress(data))
            elif event == "preview":
                if on_preview is not None and (content := await decoded_preview(data.get("b64_json"))):
                    on_preview(content)
            elif event == "completed":
                content = await decoded_picture(data.get("b64_json"), max_bytes=self._options.max_bytes)
                return GeneratedImage(content, seed=_seed(data.get("seed")))
            elif event == "error":
                raise _stream_error(data)
        raise Transient("the inference service ended its answer without a picture")


def _idempotency_key(job: Job) -> str:
    # After a bad picture the same key would return the same bytes.
    return f"{job.image_id}-{job.refused + 1}" if job.refused else job.image_id


def _accepted(job: Job) -> str:
    """The formats that are taken; the one that the client wants comes first, so a service that can choose sends it."""
    if job.wanted_format is None:
        return IMAGES
    others = (f"image/{each};q=0.5" for each in Format if each is not job.wanted_format)
    return ", ".join([f"image/{job.wanted_format}", *others])


def _request_body(job: Job) -> dict[str, object]:
    return {
        "prompt": job.prompt,
        "negative_prompt": job.negative_prompt,
        "model": job.model,
        "width": job.width,
        "height": job.height,
        "steps": job.steps,
        "cfg_scale": job.cfg_scale,
        "sampler": job.sampler,
        "seed": job.seed,
        "hires_fix": job.hires_fix,
        "num_images": 1,
    }


def _seed(value: object) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) <= 20:
        return int(value)
    return value if isinstance(value, int) else None


def _progress(data: dict[str, object]) -> tuple[int, int]:
    step, steps = data.get("step"), data.get("steps")
    return (step, steps) if isinstance(step, int) and isinstance(steps, int) else (0, 0)


def _stream_error(data: dict[str, object]) -> InferenceError:
    """The error of an `error` event; it is classified like the same error sent as a status."""
    code, detail = clean_text(str(data.get("code", "")), 64), clean_text(str(data.get("detail", "")), 300)
    if code in _DENIED_CODES:
        return Denied(f"the inference service sent the error {code}: {detail}")
    return Rejected(detail) if code in _REJECTED_CODES else Transient(f"{code}: {detail}")
