"""The capabilities of an inference service: `GET /inference/capabilities`."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Final

import aiohttp
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from common.domain.texts import clean_text
from common.runtime.bounded_read import TooLarge, read_body
from common.runtime.clock import Clock

log = logging.getLogger(__name__)

REFRESH_INTERVAL_S = 60.0  # a new model is offered within a minute
RETRY_INTERVAL_S = 5.0  # a service that does not answer is not asked by every request
_MAX_BYTES = 1_000_000
MAX_NAMES: Final = 500  # models, and samplers of each: a page lists them, and a refusal names them
MAX_NAME: Final = 100  # characters, as in a request


def _is_name(text: str) -> bool:
    return 0 < len(text) <= MAX_NAME and clean_text(text, MAX_NAME) == text


def _names(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text for text in texts if _is_name(text))[:MAX_NAMES]


def _clean_or_none(text: str | None) -> str | None:
    return clean_text(text) if text else None


# A name is sent back to the service, so one that would have to be changed is left out.
Names = Annotated[tuple[str, ...], AfterValidator(_names)]
DisplayText = Annotated[str | None, AfterValidator(_clean_or_none)]


class Model(BaseModel):
    """One model; if `samplers` is empty, those of the service apply."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    name: DisplayText = None
    samplers: Names = ()
    max_width: int | None = None
    max_height: int | None = None
    max_steps: int | None = None
    hires_fix: bool | None = None
    negative_prompt: bool | None = None


def _named(models: tuple[Model, ...]) -> tuple[Model, ...]:
    return tuple(model for model in models if _is_name(model.id))[:MAX_NAMES]


class Capabilities(BaseModel):
    """A missing field means no limit. Unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    engine: DisplayText = None
    notice: DisplayText = None
    models: Annotated[tuple[Model, ...], AfterValidator(_named)] = ()
    samplers: Names = ()


class CapabilitiesClient:
    """Reads the capabilities of one service at most once a minute; while it does not answer, the last ones apply."""

    def __init__(
        self, http: aiohttp.ClientSession, *, url: str, api_key: str | None, clock: Clock, timeout_s: float = 2
    ) -> None:
        self._http = http
        self._url = f"{url.rstrip('/')}/inference/capabilities"
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._latest: Capabilities | None = None
        self._ask_after = float("-inf")
        self._lock = asyncio.Lock()

    async def get(self) -> Capabilities | None:
        """The capabilities; None if the service has no such route or has never answered."""
        async with self._lock:  # one request at a time; the other callers use its result
            if self._clock.monotonic() >= self._ask_after:
                await self.refresh()
        return self._latest

    async def refresh(self) -> bool:
        """Request the capabilities now; True if the service is reachable and answers without a server error."""
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
        self._latest = _parsed(body) if response.status == 200 else None
        return True


def _parsed(body: bytes) -> Capabilities | None:
    try:
        return Capabilities.model_validate_json(body)
    except ValidationError as error:
        log.warning("the capabilities of the inference service are not valid: %d errors", error.error_count())
        return None
