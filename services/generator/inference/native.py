"""Client of an inference service that implements Darkroom's own HTTP contract.

Source: docs/inference-http.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp

from common.application.capabilities import CapabilitiesClient
from common.domain.errors import BadImage, Denied, InferenceError, Rejected, Transient, Unreachable
from common.domain.images import Format, Image
from common.domain.texts import clean_text
from common.runtime.bounded_read import TooLarge, read_body
from common.runtime.clock import Clock
from services.generator.inference.base64_text import decode_base64
from services.generator.inference.event_stream import LARGE, server_sent_events
from services.generator.inference.port import OnPreview, OnProgress

log = logging.getLogger(__name__)

TRANSIENT_STATUSES: Final = frozenset({408, 425, 429})
# the key is missing, wrong, or not paid for; the route is missing; a proxy before the service wants a key of its own
DENIED_STATUSES: Final = frozenset({401, 402, 403, 404, 405, 407})
IMAGES: Final = "image/png, image/jpeg, image/webp"
_MAX_ERROR_BYTES: Final = 20_000  # an error page in HTML; only its beginning is logged
_CONNECT_S: Final = 5.0


class NativeBackend:
    """One inference service; all paintings of the process share its HTTP session."""

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
        self._capabilities = CapabilitiesClient(http, url=url, api_key=api_key, clock=clock)

    async def paint(self, image: Image, on_progress: OnProgress, on_preview: OnPreview | None = None) -> bytes:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._paint(image, on_progress, on_preview)
        except TimeoutError as error:
            raise Transient(f"the inference service did not answer within {self._timeout_s:g} s") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise Denied(clean_text(f"the certificate of the inference service is not accepted: {error}")) from error
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(f"no connection to the inference service: {error.os_error.strerror or error}") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise Transient(f"the connection to the inference service broke: {type(error).__name__}") from error

    async def is_reachable(self) -> bool:
        return await self._capabilities.refresh()

    async def _paint(self, image: Image, on_progress: OnProgress, on_preview: OnPreview | None) -> bytes:
        # a service that describes its capabilities can stream its progress
        can_stream = await self._capabilities.get() is not None
        headers = {
            **self._authorization,
            "Accept": f"text/event-stream, {_accepted(image)}" if can_stream else _accepted(image),
            "Accept-Encoding": "identity",  # a small body must not unpack into a large one
            "Idempotency-Key": _idempotency_key(image),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        async with self._http.post(
            self._url, json=_request_body(image), headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise await _response_error(response, self._clock)
            if response.content_type == "text/event-stream":
                return await self._read_stream(response, on_progress, on_preview)
            try:
                return await read_body(response, max_bytes=self._max_bytes)
            except TooLarge as error:
                raise BadImage(f"the picture of the inference service has {error}") from error

    async def _read_stream(
        self, response: aiohttp.ClientResponse, on_progress: OnProgress, on_preview: OnPreview | None
    ) -> bytes:
        # base64 makes 4 characters of 3 bytes; all other events of a stream are small
        limit = self._max_bytes * 4 // 3 + 1_000_000
        async for event, data in server_sent_events(response, max_bytes=limit):
            if event == "progress":
                on_progress(*_progress(data))
            elif event == "preview":
                if on_preview is not None and (content := _preview(data)):
                    on_preview(content)
            elif event == "completed":
                return await _decoded(data, max_bytes=self._max_bytes)
            elif event == "error":
                raise _stream_error(data)
        raise Transient("the inference service ended its answer without a picture")


def _idempotency_key(image: Image) -> str:
    # After a bad picture the same key would return the same bytes. So every later attempt uses one other key, and the
    # service paints at most twice.
    had_bad_image = image.error is not None and image.error.code == BadImage.code
    return f"{image.id}-2" if had_bad_image else image.id


def _accepted(image: Image) -> str:
    """The formats that are taken; the one that the client wants comes first, so a service that can choose sends it."""
    if image.wanted_format is None:
        return IMAGES
    others = (f"image/{each};q=0.5" for each in Format if each is not image.wanted_format)
    return ", ".join([f"image/{image.wanted_format}", *others])


def _request_body(image: Image) -> dict[str, object]:
    return {
        "prompt": image.prompt,
        "negative_prompt": image.negative_prompt,
        "model": image.model,
        "width": image.width,
        "height": image.height,
        **image.parameters.model_dump(),
        "num_images": 1,
    }


async def _response_error(response: aiohttp.ClientResponse, clock: Clock) -> InferenceError:
    """The error for a status other than 200."""
    if 300 <= response.status < 400:
        return Rejected(f"the inference service redirects ({response.status}), and redirects are not followed")
    try:
        text = (await read_body(response, max_bytes=_MAX_ERROR_BYTES)).decode(errors="replace")
    except TooLarge:
        text = f"more than {_MAX_ERROR_BYTES} bytes of text"
    detail = f"the inference service answered {response.status}: {_error_text(text)}"
    if response.status in DENIED_STATUSES:
        return Denied(f"the inference service answered {response.status}: {clean_text(text, _MAX_ERROR_BYTES)}")
    if response.status in TRANSIENT_STATUSES or response.status >= 500:
        return Transient(detail, retry_after_s=_retry_after(response, clock))
    if response.status < 300:
        return BadImage(detail)
    return Rejected(detail)


def _error_text(text: str) -> str:
    """The message in an error body: JSON's `detail`, `error` or `message`, or else the beginning of the body."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict):
        found = body.get("detail") or body.get("error") or body.get("message")
        if isinstance(found, dict):
            found = found.get("message")
        text = found if isinstance(found, str) else text
    return clean_text(text, 300) or "(no text)"


def _retry_after(response: aiohttp.ClientResponse, clock: Clock) -> float | None:
    """Seconds to wait, from either form of the header (RFC 9110, section 10.2.3)."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - clock.now()).total_seconds())
    except (ValueError, TypeError, OverflowError):  # a year beyond 9999 overflows
        return None


def _preview(data: dict[str, object]) -> bytes | None:
    try:
        return decode_base64(str(data.get("b64_json")))
    except ValueError as error:
        log.debug("preview ignored: %s", error)
        return None


def _progress(data: dict[str, object]) -> tuple[int, int]:
    step, steps = data.get("step"), data.get("steps")
    return (step, steps) if isinstance(step, int) and isinstance(steps, int) else (0, 0)


async def _decoded(data: dict[str, object], *, max_bytes: int) -> bytes:
    text = data.get("b64_json")
    if not isinstance(text, str) or not text:
        raise BadImage("the result of the inference service has no picture in b64_json")
    try:
        content = await asyncio.to_thread(decode_base64, text) if len(text) > LARGE else decode_base64(text)
    except ValueError as error:
        raise BadImage("the picture of the inference service is not base64") from error
    if len(content) > max_bytes:
        raise BadImage(f"the picture of the inference service has more than {max_bytes} bytes")
    return content


def _stream_error(data: dict[str, object]) -> InferenceError:
    """The error of an `error` event; it is classified like the same error sent as a status."""
    code, detail = clean_text(str(data.get("code", "")), 64), clean_text(str(data.get("detail", "")), 300)
    rejected = code in {"invalid", "invalid_request", "refused", "unprocessable"}
    return Rejected(detail) if rejected else Transient(f"{code}: {detail}")
