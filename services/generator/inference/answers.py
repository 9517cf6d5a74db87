"""Answers of inference services over HTTP, as the errors of the port."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp

from common.domain.errors import BadImage, Denied, InferenceError, Rejected, Transient, Unreachable
from common.domain.texts import clean_text
from common.runtime.bounded_read import TooLarge, read_body
from common.runtime.clock import Clock

TRANSIENT_STATUSES: Final = frozenset({408, 425, 429})
# the key is missing, wrong, or not paid for; the route is missing, or the server is of another kind; a proxy before
# the service wants a key of its own, or does not serve the name in the URL
DENIED_STATUSES: Final = frozenset({401, 402, 403, 404, 405, 407, 421, 501, 511})
CONNECT_S: Final = 5.0
_MAX_ERROR_BYTES: Final = 20_000  # an error page in HTML; only its beginning is logged


@contextmanager
def connection_errors() -> Iterator[None]:
    """Raise the errors of the port for those of aiohttp, and for a body that is too large.

    Raises:
        Denied, Unreachable, Transient, BadImage
    """
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        raise Denied(clean_text(f"the certificate of the inference service is not accepted: {error}")) from error
    except aiohttp.ClientConnectorError as error:
        raise Unreachable(f"no connection to the inference service: {error.os_error.strerror or error}") from error
    except (aiohttp.ClientError, ConnectionError) as error:
        raise Transient(f"the connection to the inference service broke: {type(error).__name__}") from error
    except TimeoutError as error:
        raise Transient("the inference service did not answer in time") from error
    except TooLarge as error:
        raise BadImage(f"the answer of the inference service has {error}") from error


async def response_error(
    response: aiohttp.ClientResponse,
    clock: Clock,
    *,
    denied: frozenset[int] = DENIED_STATUSES,
    transient: frozenset[int] = TRANSIENT_STATUSES,
) -> InferenceError:
    """The error for a status other than 200; a dialect may leave out a status of `denied`, such as its 404."""
    return status_error(response, await error_body(response), clock, denied=denied, transient=transient)


async def error_body(response: aiohttp.ClientResponse) -> str:
    """The text of an error page."""
    try:
        return (await read_body(response, max_bytes=_MAX_ERROR_BYTES)).decode(errors="replace")
    except TooLarge:
        return f"more than {_MAX_ERROR_BYTES} bytes of text"


def status_error(
    response: aiohttp.ClientResponse,
    text: str,
    clock: Clock,
    *,
    denied: frozenset[int] = DENIED_STATUSES,
    transient: frozenset[int] = TRANSIENT_STATUSES,
) -> InferenceError:
    """The error for a status other than 200 whose body has been read."""
    if 300 <= response.status < 400:
        return Rejected(f"the inference service redirects ({response.status}), and redirects are not followed")
    detail = f"the inference service answered {response.status}: {error_text(text)}"
    if response.status in denied:
        return Denied(f"the inference service answered {response.status}: {clean_text(text, _MAX_ERROR_BYTES)}")
    if response.status in transient or response.status >= 500:
        return Transient(detail, retry_after_s=_retry_after(response, clock))
    if response.status < 300:
        return BadImage(detail)
    return Rejected(detail)


def error_text(text: str) -> str:
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


async def read_json(response: aiohttp.ClientResponse, *, max_bytes: int) -> Any:
    """The JSON of a body; large ones are worth a thread, which the caller decides by `max_bytes`.

    Raises:
        Transient: the body is not JSON, or is larger than `max_bytes`.
    """
    try:
        return json.loads(await read_body(response, max_bytes=max_bytes))
    except (ValueError, RecursionError) as error:
        raise Transient("an answer of the inference service is not JSON") from error
    except TooLarge as error:
        raise Transient(f"an answer of the inference service has {error}") from error


def _retry_after(response: aiohttp.ClientResponse, clock: Clock) -> float | None:
    """Seconds to wait, from either form of the header (RFC 9110, section 10.2.3)."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - clock.now()).total_seconds())
    except (ValueError, TypeError, OverflowError):  # a year beyond 9999 overflows
        return None


def timed_out(limit_s: float, *, needs_new_id: bool = False) -> Transient:
    return Transient(f"the inference service did not answer within {limit_s:g} s", needs_new_id=needs_new_id)
