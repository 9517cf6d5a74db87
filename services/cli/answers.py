"""The answers that `darkroom generate` gets. A proxy or a server of another kind may have sent them instead."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.runtime.bounded_read import TooLarge, read_body
from services.cli.console import CommandFailed

MAX_JSON: Final = 1_000_000  # bytes; an image with the longest prompts takes 50,000
MAX_PICTURE: Final = 1_000_000_000  # bytes; the server has a smaller limit of its own
PASSING: Final = frozenset({502, 503, 504})  # from the api, or from a proxy that does not reach it


class NoAnswer(CommandFailed):
    """No answer of a Darkroom server; `is_passing` if it may answer when it is asked again soon."""

    def __init__(self, message: str, *, is_passing: bool) -> None:
        super().__init__(message)
        self.is_passing = is_passing


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class AnswerFailure(_Answer):
    code: str
    detail: str


class RemoteImage(_Answer):
    """What this client needs of an image."""

    id: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z-]{0,63}$")]  # it becomes the name of a file
    status: Literal["queued", "running", "completed", "failed", "cancelled"]
    image_url: Annotated[str | None, Field(alias="imageUrl")] = None
    format: Literal["png", "jpeg", "webp"] | None = None
    error: AnswerFailure | None = None

    @property
    def is_final(self) -> bool:
        return self.status not in {"queued", "running"}

    @property
    def file_name(self) -> str:
        return f"{self.id}.{'jpg' if self.format == 'jpeg' else self.format or 'png'}"


class ProgressLine(_Answer):
    step: Annotated[int, Field(ge=0)]
    steps: Annotated[int, Field(ge=1)]


class Frame(_Answer):
    """A frame of the websocket."""

    type: str
    subject: str | None = None
    data: Any = None


async def image_of(http: aiohttp.ClientSession, method: str, url: str, **request: Any) -> RemoteImage:
    """The image that a request is answered with.

    Raises:
        NoAnswer: no Darkroom server answered.
        CommandFailed: the server refused the request.
    """
    return (await images_of(http, method, url, **request))[0]


async def images_of(http: aiohttp.ClientSession, method: str, url: str, **request: Any) -> list[RemoteImage]:
    """The images that a request for one or several is answered with. Raises as `image_of`."""
    status, kind, body = await _ask(http, method, url, max_bytes=MAX_JSON, **request)
    value = _json(body)
    if isinstance(value, dict) and isinstance(value.get("image"), dict):
        value = {"images": value.get("images"), **value["image"]}  # a problem that says how the image ended
    elif status >= 400:
        _refuse(url, status, kind, value)
    found = value.get("images") if isinstance(value, dict) else None
    try:
        return [RemoteImage.model_validate(each) for each in found or [value]]
    except (ValidationError, TypeError) as error:
        what = f"{kind} of another form" if isinstance(value, dict) else kind
        text = f"{url} answered {status} with {what}, not with an image: is --url the address of a Darkroom server?"
        raise NoAnswer(text, is_passing=False) from error


async def picture(http: aiohttp.ClientSession, url: str, wanted: str | None = None) -> bytes:
    """The file at the URL, in the wanted format.
    Raises:
        NoAnswer: what came is no picture.
    """
    status, kind, body = await _ask(http, "GET", url, max_bytes=MAX_PICTURE, allow_redirects=True)
    if status != 200 or not kind.startswith("image/") or not body:
        raise NoAnswer(f"{url} answered {status} with {kind}, not with the picture", is_passing=status in PASSING)
    if wanted is not None and kind != f"image/{wanted}":
        raise CommandFailed(f"the server sent {kind}, not {wanted}; the image is at {url}")
    return body


def frame_of(text: str) -> Frame | None:
    """A frame of the websocket; None if it has another form."""
    try:
        return Frame.model_validate(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _refuse(url: str, status: int, kind: str, value: Any) -> None:
    try:
        problem = AnswerFailure.model_validate(value)
    except ValidationError as error:
        raise NoAnswer(f"{url} answered {status} with {kind}", is_passing=status in PASSING) from error
    text = f"{problem.code}: {problem.detail}"
    raise NoAnswer(text, is_passing=True) if status in PASSING else CommandFailed(text)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


async def _ask(
    http: aiohttp.ClientSession, method: str, url: str, *, max_bytes: int, allow_redirects: bool = False, **request: Any
) -> tuple[int, str, bytes]:
    """The status, the media type and the body of the answer."""
    try:
        async with http.request(method, url, allow_redirects=allow_redirects, **request) as response:
            if 300 <= response.status < 400:
                # not followed: a POST would become a GET, and the token would go to an address that nobody named
                target = response.headers.get("Location", "nowhere")
                raise CommandFailed(f"{url} answered {response.status}, a redirect to {target}: correct --url")
            body = await read_body(response, max_bytes=max_bytes)
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip() or "nothing"
            return response.status, kind if body else "nothing", body
    except TooLarge as error:
        raise NoAnswer(f"{url} answered with {error}", is_passing=False) from error
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise no_answer(url, error) from error


def no_answer(url: str, error: Exception) -> NoAnswer:
    """The sentence for an error of the connection."""
    if isinstance(error, aiohttp.InvalidURL | UnicodeError):
        return NoAnswer(f"{url} is not a valid URL: correct --url", is_passing=False)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
        text = (
            f"the certificate of {url} is not accepted ({reason}); SSL_CERT_FILE names a file of trusted certificates"
        )
        return NoAnswer(text, is_passing=False)
    if isinstance(error, aiohttp.ClientSSLError):
        return NoAnswer(f"there is no TLS at {url} ({error.strerror or error})", is_passing=False)
    if isinstance(error, aiohttp.ClientConnectorError):
        return NoAnswer(f"no server answers at {url}; `darkroom up` starts one", is_passing=False)
    hint = "; does the server speak https?" if url.startswith("http:") and _is_no_http(error) else ""
    return NoAnswer(f"the connection to {url} broke: {str(error) or type(error).__name__}{hint}", is_passing=True)


def _is_no_http(error: Exception) -> bool:
    """Whether the server closed the connection, or answered in another protocol."""
    return isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientResponseError)
