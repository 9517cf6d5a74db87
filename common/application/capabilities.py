"""The capabilities of an inference service, as its back end describes them.

The client is of Darkroom's own contract: `GET /inference/capabilities`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import aiohttp
from pydantic import BaseModel, ConfigDict, ValidationError

from common.domain.texts import clean_text
from common.runtime.bounded_read import TooLarge, read_body
from common.runtime.clock import Clock

log = logging.getLogger(__name__)

REFRESH_INTERVAL_S = 60.0  # a new model is offered within a minute
RETRY_INTERVAL_S = 5.0  # a service that does not answer is not asked by every request
MAX_CAPABILITIES_BYTES: Final = 1_000_000
MAX_NAME: Final = 100  # characters; no request may name a longer model or sampler
MAX_MODELS: Final = 1_000
MAX_SAMPLERS: Final = 200  # ComfyUI has about 40 samplers with 9 schedulers each, of which a table names a part
MAX_NUMBER: Final = 1_000_000  # pixels or steps
_OF_THE_CONTRACT: Final = frozenset({"engine", "notice", "models", "samplers"})  # docs/inference-http.md


class Feature(StrEnum):
    """What a back end can do besides painting."""

    HIRES_FIX = "hires_fix"
    NEGATIVE_PROMPT = "negative_prompt"
    PROGRESS = "progress"
    PREVIEWS = "previews"
    CANCEL = "cancel"  # work in progress stops within about a second
    ADOPTION = "adoption"  # the next worker takes over the work, or the result, of one that was killed


class Model(BaseModel):
    """One model; if `samplers` is empty, those of the service apply."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    name: str | None = None
    samplers: tuple[str, ...] = ()
    max_width: int | None = None
    max_height: int | None = None
    max_steps: int | None = None
    grid: int | None = None  # both sides must be multiples of it, in pixels
    hires_fix: bool | None = None
    negative_prompt: bool | None = None


class Capabilities(BaseModel):
    """A missing field means no limit. Unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    engine: str | None = None
    notice: str | None = None
    models: tuple[Model, ...] = ()
    samplers: tuple[str, ...] = ()
    dialect: str | None = None
    version: str | None = None
    features: tuple[Feature, ...] | None = None  # None: not known
    concurrency: int | None = None  # images that it paints at once


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
                body = await read_body(response, max_bytes=MAX_CAPABILITIES_BYTES) if response.status == 200 else b""
        except (aiohttp.ClientError, TimeoutError, OSError, TooLarge) as error:
            log.debug("no capabilities from the inference service: %s", error)
            return False
        if response.status >= 500:
            return False
        self._ask_after = self._clock.monotonic() + REFRESH_INTERVAL_S
        self._latest = parse_capabilities(body) if response.status == 200 else None
        return True


def parse_capabilities(body: bytes) -> Capabilities | None:
    """The capabilities in the form of docs/inference-http.md, bounded; None if they are not valid."""
    try:
        found = json.loads(body)
        known = {name: found[name] for name in _OF_THE_CONTRACT & found.keys()} if isinstance(found, dict) else found
        return bounded(Capabilities.model_validate(known))
    except ValidationError as error:
        log.warning("the capabilities of the inference service are not valid: %d errors", error.error_count())
    except (ValueError, RecursionError):
        log.warning("the capabilities of the inference service are not JSON")
    return None


def bounded(found: Capabilities) -> Capabilities:
    """The same with bounded numbers and texts, since they come from another server.

    Models and samplers with a name that no request can have are left out.
    """
    return found.model_copy(
        update={
            "engine": _text(found.engine),
            "notice": _text(found.notice, 500),
            "models": tuple(_bounded_model(each) for each in found.models if _is_name(each.id))[:MAX_MODELS],
            "samplers": _names(found.samplers),
            "dialect": _text(found.dialect),
            "version": _text(found.version),
            "concurrency": _number(found.concurrency),
        }
    )


def _bounded_model(model: Model) -> Model:
    return model.model_copy(
        update={
            "name": _text(model.name),
            "samplers": _names(model.samplers),
            "max_width": _number(model.max_width),
            "max_height": _number(model.max_height),
            "max_steps": _number(model.max_steps),
            "grid": _number(model.grid),
        }
    )


def _is_name(text: str) -> bool:
    return bool(text) and clean_text(text, MAX_NAME) == text


def _names(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if _is_name(text)))[:MAX_SAMPLERS]


def _text(text: str | None, max_chars: int = MAX_NAME) -> str | None:
    return (clean_text(text, max_chars) or None) if text is not None else None


def _number(number: int | None) -> int | None:
    return number if number is not None and 0 < number <= MAX_NUMBER else None
