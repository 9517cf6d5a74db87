"""What an inference service says it can do, where it says so: `GET /inference/capabilities`."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
from pydantic import BaseModel, ConfigDict, ValidationError

from common.runtime.bounded_read import TooLarge, read_body
from common.runtime.clock import Clock

log = logging.getLogger(__name__)

REFRESH_INTERVAL_S = 60.0  # a model that was just added is offered within a minute
RETRY_INTERVAL_S = 5.0  # a silent service is not asked by every request
_MAX_BYTES = 1_000_000


class Model(BaseModel):
    """A model by its id; empty `samplers` means those of the service."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    name: str | None = None
    samplers: tuple[str, ...] = ()
    max_width: int | None = None
    max_height: int | None = None
    max_steps: int | None = None
    hires_fix: bool | None = None
    negative_prompt: bool | None = None


class Capabilities(BaseModel):
    """What is not said is not limited; fields that we do not know are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    engine: str | None = None
    notice: str | None = None
    models: tuple[Model, ...] = ()
    samplers: tuple[str, ...] = ()


class CapabilitiesClient:
    """The capabilities of one service, asked at most once a minute; the last known ones while it is silent."""

    def __init__(
        self, http: aiohttp.ClientSession, *, url: str, api_key: str | None, clock: Clock, timeout_s: float = 2
    ) -> None:
        self._http = http
        self._url = f"{url.rstrip('/')}/inference/capabilities"
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._known: Capabilities | None = None
        self._ask_after = float("-inf")
        self._asking = asyncio.Lock()

    async def get(self) -> Capabilities | None:
        """None where the service does not say, or has never answered."""
        async with self._asking:  # one question at a time: the others take its answer
            if self._clock.monotonic() >= self._ask_after:
                await self.refresh()
        return self._known

    async def refresh(self) -> bool:
        """Ask now; True if anything but a failure of the service comes back."""
        self._ask_after = self._clock.monotonic() + RETRY_INTERVAL_S
        try:
            async with self._http.get(
                self._url, headers=self._headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                body = await read_body(response, max_bytes=_MAX_BYTES) if response.status == 200 else b""
        except (aiohttp.ClientError, TimeoutError, OSError, TooLarge) as error:
            log.debug("no capabilities from the inference service: %s", error)
            return False
        if response.status >= 500:
            return False
        self._ask_after = self._clock.monotonic() + REFRESH_INTERVAL_S
        self._known = _parsed(body) if response.status == 200 else None
        return True


def _parsed(body: bytes) -> Capabilities | None:
    try:
        return Capabilities.model_validate_json(body)
    except ValidationError as error:
        log.warning("the inference service's capabilities cannot be read: %d errors", error.error_count())
        return None
