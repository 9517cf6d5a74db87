"""Asks the inference service for one picture, and reads what it says on the way. Source: docs/inference-http.md."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp

from common.application.capabilities import CapabilitiesClient
from common.domain.errors import BadImage, InferenceError, Rejected, Transient, Unreachable
from common.domain.images import Image
from common.runtime.bounded_read import TooLarge, read_body
from common.runtime.clock import Clock
from services.generator.inference.event_stream import server_sent_events

log = logging.getLogger(__name__)

TRANSIENT_STATUSES: Final = frozenset({408, 425, 429})
IMAGES: Final = "image/png, image/jpeg, image/webp"
_MAX_ERROR_BYTES: Final = 20_000  # a page of HTML; the reader of a log wants its beginning
_CONNECT_S: Final = 5.0

OnProgress = Callable[[int, int], None]
OnPreview = Callable[[bytes], None]


class InferenceClient:
    """One inference service; its HTTP session is shared by all work of the process."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        url: str,
        api_key: str | None,
        timeout_s: float,
        max_bytes: int,
        clock: Clock,
    ) -> None:
        self._http = http
        self._url = f"{url.rstrip('/')}/inference/images/generations"
        self._authorization = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._clock = clock
        self.capabilities = CapabilitiesClient(http, url=url, api_key=api_key, clock=clock)

    async def paint(self, image: Image, on_progress: OnProgress, on_preview: OnPreview | None = None) -> bytes:
        """The bytes of a picture, not yet checked. Cancelling drops the connection, which stops the work there.

        `on_preview` gets what the picture looks like on the way, not checked either.

        Raises:
            Unreachable, Transient, Rejected, BadImage: as the table of docs/inference-http.md says.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._paint(image, on_progress, on_preview)
        except TimeoutError as error:
            raise Transient(f"no answer within {self._timeout_s:g} s") from error
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(f"no connection: {error.os_error.strerror or error}") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise Transient(f"the answer broke off: {type(error).__name__}") from error

    async def _paint(self, image: Image, on_progress: OnProgress, on_preview: OnPreview | None) -> bytes:
        says_more = await self.capabilities.get() is not None
        headers = {
            **self._authorization,
            "Accept": f"text/event-stream, {IMAGES}" if says_more else IMAGES,
            "Accept-Encoding": "identity",  # a small body must not unpack into a large one
            "Idempotency-Key": _idempotency_key(image),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        async with self._http.post(
            self._url, json=_order(image), headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise await _refusal(response, self._clock)
            if response.content_type == "text/event-stream":
                return await self._follow(response, on_progress, on_preview)
            try:
                return await read_body(response, max_bytes=self._max_bytes)
            except TooLarge as error:
                raise BadImage(f"the picture has {error}") from error

    async def _follow(
        self, response: aiohttp.ClientResponse, on_progress: OnProgress, on_preview: OnPreview | None
    ) -> bytes:
        # base64 makes 4 characters of 3 bytes; what else a stream says is small
        limit = self._max_bytes * 4 // 3 + 1_000_000
        async for event, data in server_sent_events(response, max_bytes=limit):
            if event == "progress":
                on_progress(*_step(data))
            elif event == "preview":
                if on_preview is not None and (shown := _preview(data)):
                    on_preview(shown)
            elif event == "completed":
                return _decoded(data, max_bytes=self._max_bytes)
            elif event == "error":
                raise _told(data)
        raise Transient("the stream ended without a picture")


def _idempotency_key(image: Image) -> str:
    # after a bad picture the same key would only bring the same bytes again; then one other key, whatever becomes of
    # the attempts: the service paints at most twice
    bad_before = image.error is not None and image.error.code == BadImage.code
    return f"{image.id}-2" if bad_before else image.id


def _order(image: Image) -> dict[str, object]:
    return {
        "prompt": image.prompt,
        "negative_prompt": image.negative_prompt,
        "model": image.model,
        "width": image.width,
        "height": image.height,
        **image.parameters.model_dump(),
        "num_images": 1,
    }


async def _refusal(response: aiohttp.ClientResponse, clock: Clock) -> InferenceError:
    """The error that an answer other than 200 is."""
    if 300 <= response.status < 400:
        return Rejected(f"it redirects ({response.status}), which is not followed")
    try:
        text = (await read_body(response, max_bytes=_MAX_ERROR_BYTES)).decode(errors="replace")
    except TooLarge:
        text = "a long text"
    detail = f"it answered {response.status}: {_plain(text)}"
    if response.status in TRANSIENT_STATUSES or response.status >= 500:
        return Transient(detail, retry_after_s=_retry_after(response, clock))
    if response.status < 300:
        return BadImage(detail)
    return Rejected(detail)


def _plain(text: str) -> str:
    """The sentence in an error body: JSON's `detail`, `error` or `message`, else its beginning."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict):
        found = body.get("detail") or body.get("error") or body.get("message")
        if isinstance(found, dict):
            found = found.get("message")
        text = found if isinstance(found, str) else text
    return " ".join(text.split())[:300] or "nothing"


def _retry_after(response: aiohttp.ClientResponse, clock: Clock) -> float | None:
    """Seconds to wait, from either form of the header (RFC 9110, section 10.2.3)."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - clock.now()).total_seconds())
    except (ValueError, TypeError):
        return None


def _preview(data: dict[str, object]) -> bytes | None:
    try:
        return base64.b64decode(str(data.get("b64_json")), validate=True)
    except ValueError as error:  # binascii.Error is one; text beyond ASCII raises it bare
        log.debug("preview passed over: %s", error)
        return None


def _step(data: dict[str, object]) -> tuple[int, int]:
    step, steps = data.get("step"), data.get("steps")
    return (step, steps) if isinstance(step, int) and isinstance(steps, int) else (0, 0)


def _decoded(data: dict[str, object], *, max_bytes: int) -> bytes:
    try:
        content = base64.b64decode(str(data.get("b64_json")), validate=True)
    except ValueError as error:  # binascii.Error is one; text beyond ASCII raises it bare
        raise BadImage("the picture in the stream is not base64") from error
    if len(content) > max_bytes:
        raise BadImage(f"the picture has more than {max_bytes} bytes")
    return content


def _told(data: dict[str, object]) -> InferenceError:
    """An error told in the stream, by the same rules as an error told by a status."""
    code, detail = str(data.get("code", "")), str(data.get("detail", ""))[:300]
    rejected = code in {"invalid", "invalid_request", "refused", "unprocessable"}
    return Rejected(detail) if rejected else Transient(f"{code}: {detail}")
