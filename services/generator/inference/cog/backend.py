"""Client of a cog container: one prediction for each job.

The container stops a prediction when its client leaves. So the work ends with the call, also if only the lease was
lost: the id is new for each call, and the work of another worker has another one.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any, Final

import aiohttp

from common.application.capabilities import Capabilities
from common.domain.errors import Denied, InferenceError, Misconfigured, Transient, Unreachable
from common.domain.texts import clean_text
from services.generator.inference.answers import response_error, timed_out
from services.generator.inference.capabilities_cache import CapabilitiesCache
from services.generator.inference.cog.inputs import CogModel, order_input, parse_model
from services.generator.inference.cog.predictions import read_prediction
from services.generator.inference.job import Job
from services.generator.inference.port import BackendOptions, GeneratedImage, OnPreview, OnProgress
from services.generator.inference.service_client import ServiceClient, ServiceUrl, authorization
from services.generator.inference.supported import require_supported

log = logging.getLogger(__name__)

_START_LIMIT_S: Final = 1800.0  # weights of tens of gigabytes are loaded; with a wrong PATH it stays STARTING for ever
_STOP_S: Final = 2.0
_BUSY_S: Final = 3.0
_BUSY_INTERVAL_S: Final = 0.1
_REMEMBERED: Final = 100
_MAX_CONCURRENCY: Final = 64  # as of GENERATOR_CONCURRENCY
_BROKEN: Final = frozenset({"SETUP_FAILED", "DEFUNCT"})
_WORKING: Final = frozenset({"READY", "BUSY"})


class SlotTaken(Transient):
    """All slots of the container are taken."""


class CogBackend:
    """One container. `?model=name` in the URL names its model, `?concurrency=2` how many predictions it takes.

    Raises:
        Misconfigured: the URL has another parameter, or another value.
    """

    def __init__(self, options: BackendOptions) -> None:
        self._options = options
        parsed = ServiceUrl.parse(options.url, "model", "concurrency")
        self._client = ServiceClient(
            options.http, base=parsed.base, headers=authorization(parsed, options.api_key), clock=options.clock
        )
        self._names = tuple(filter(None, parsed.options.get("model", "").split(",")))
        self._concurrency = _concurrency(parsed.options.get("concurrency", "1"))
        self._slots = asyncio.Semaphore(self._concurrency)
        self._capabilities = CapabilitiesCache(self._ask, options.clock)
        self._model: CogModel | None = None
        self._starting_since: float | None = None
        self._predictions: dict[str, str] = {}  # the id at the container by the remote id of the job

    async def capabilities(self, *, fresh: bool = False) -> Capabilities:
        return await self._capabilities.get(fresh=fresh)

    async def generate(self, job: Job, on_progress: OnProgress, on_preview: OnPreview | None = None) -> GeneratedImage:
        async with self._slots:  # else the container answers 409, which counts as a failure of the image
            try:
                async with asyncio.timeout(self._options.timeout_s):
                    return await self._generate(job, on_progress)
            except TimeoutError as error:
                await self.stop(job)
                raise timed_out(self._options.timeout_s) from error
            except (Denied, Transient, Unreachable):
                self._model = None  # it may have restarted, with another model too
                raise

    async def stop(self, job: Job) -> None:
        """The end of the connection has stopped it; this is for a proxy that keeps its own connection."""
        prediction = self._predictions.pop(job.remote_id, None)
        if prediction is None:
            return
        try:
            async with self._client.open("POST", f"/predictions/{prediction}/cancel", limit_s=_STOP_S):
                pass
        except InferenceError as error:
            log.debug("the prediction of image %s was not cancelled: %s", job.image_id, error.detail)

    async def _ask(self) -> Capabilities:
        health = await self._require_healthy()
        self._model = parse_model(await self._client.ask("/openapi.json"))
        version = health.get("version")
        coglet = version.get("coglet") if isinstance(version, dict) else None
        found = self._model.capabilities(names=self._names, version=coglet if isinstance(coglet, str) else None)
        return found.model_copy(update={"concurrency": self._concurrency})

    async def _require_healthy(self) -> dict[str, Any]:
        """The answer of the health check, whose status is always 200."""
        health = await self._client.ask("/health-check")
        status = health.get("status") if isinstance(health, dict) else None
        if status in _WORKING:
            self._starting_since = None
            return health if isinstance(health, dict) else {}
        if status is None:
            raise Denied("there is no /health-check of a cog container at this URL")
        if status in _BROKEN:
            raise Denied(f"the container cannot paint: {clean_text(str(status), 30)}; see its log")
        if status == "STARTING":
            self._require_start()
        raise Transient(f"the container is not ready: {clean_text(str(status), 30)}")

    def _require_start(self) -> None:
        now = self._options.clock.monotonic()
        self._starting_since = now if self._starting_since is None else self._starting_since
        if now - self._starting_since > _START_LIMIT_S:
            raise Denied(f"the container has been starting for {_START_LIMIT_S:g} s; see its log")

    async def _generate(self, job: Job, on_progress: OnProgress) -> GeneratedImage:
        if self._model is None:
            await self._capabilities.get(fresh=True)
        assert self._model is not None
        model = self._model
        require_supported(job, model.capabilities(names=self._names, version=None))
        order = order_input(job, model)
        give_up_s = self._options.clock.monotonic() + _BUSY_S
        while True:
            try:
                return await self._predict(job, model, order, on_progress)
            except SlotTaken as error:  # a prediction that was stopped keeps its slot for up to a second
                if error.retry_after_s is not None or self._options.clock.monotonic() >= give_up_s:
                    raise
                await asyncio.sleep(_BUSY_INTERVAL_S)

    async def _predict(
        self, job: Job, model: CogModel, order: dict[str, object], on_progress: OnProgress
    ) -> GeneratedImage:
        prediction = self._begin(job)
        async with self._client.open(
            "PUT",
            f"/predictions/{prediction}",
            body={"input": order},
            headers={"Accept": "text/event-stream" if model.can_stream else "application/json"},
        ) as response:
            if response.status != 200:
                raise await self._response_error(response)
            generated = await read_prediction(
                response, self._client, on_progress, steps=job.steps, max_bytes=self._options.max_bytes
            )
        self._predictions.pop(job.remote_id, None)
        return generated

    def _begin(self, job: Job) -> str:
        """A new id; the last ones are remembered, since `stop` need not be called for each."""
        self._predictions[job.remote_id] = prediction = str(uuid.uuid4())
        if len(self._predictions) > _REMEMBERED:
            del self._predictions[next(iter(self._predictions))]
        return prediction

    async def _response_error(self, response: aiohttp.ClientResponse) -> InferenceError:
        if response.status == 409:
            error = await response_error(response, self._options.clock, transient=frozenset({409}))
            return SlotTaken(error.detail, retry_after_s=getattr(error, "retry_after_s", None))
        if response.status == 503:
            await self._require_healthy()  # raises what is wrong
        return await response_error(response, self._options.clock)


def _concurrency(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= _MAX_CONCURRENCY):
        raise Misconfigured(f"concurrency must be 1 to {_MAX_CONCURRENCY}", code="bad_setting")
    return int(text)
