"""Client of a running server for one image, from the request to the file.

websocket ─▶ POST ─▶ events, or GET every 2 s where a proxy lets no websocket through ─▶ GET the picture ─▶ the file
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp
from pydantic import ValidationError

from services.cli import answers, output_file
from services.cli.answers import NoAnswer, ProgressLine, RemoteImage
from services.cli.console import CommandFailed, print_message

BAR_WIDTH: Final = 30  # characters
POLL_S: Final = 2.0  # without an event for this long the record is read: an event may be missed, the record counts
PATIENCE_S: Final = 60.0  # without any answer while the image is waited for: a server restarts in less
REPEATS_S: Final = (1.0, 3.0, 6.0)  # before the same request is sent again, with the same key
HANDSHAKE_S: Final = 10.0  # then the websocket does without
T = TypeVar("T")


def run(*, url: str, request: dict[str, Any], output: Path | None, token: str | None) -> int:
    """Write the file, print its path and return 0.

    Raises:
        CommandFailed: with the reason.
    """
    try:
        with output_file.reserved(output):
            path = asyncio.run(_generate(url.rstrip("/"), request, output, token))
    except KeyboardInterrupt:
        _end_line()
        print_message("stopped waiting; a request that was sent is not cancelled")
        return 130
    if path != output_file.STDOUT:
        sys.stdout.write(f"{path}\n")
    return 0


async def _generate(url: str, request: dict[str, Any], output: Path | None, token: str | None) -> Path:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)
    # the websocket comes before the request, so that no event of the image is missed
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as http, _websocket(http, url) as socket:
        image = await _order(http, url, request)
        image = await _Following(http, socket, url, image).until_final()
    if image.status != "completed" or image.image_url is None:
        error = image.error or answers.AnswerFailure(code=image.status, detail="there is no picture")
        raise CommandFailed(f"{error.code}: {error.detail}")
    # the URL is signed if the server requires it; the token must not be sent to another host that serves the files
    async with aiohttp.ClientSession(timeout=timeout) as without_token:
        content = await _picture(without_token, url, image.image_url, output_file.format_of(output))
    path = output or Path(image.file_name)
    try:
        output_file.write(path, content)
    except CommandFailed as error:
        raise CommandFailed(f"{error}; the image is at {image.image_url}") from error
    return path


@asynccontextmanager
async def _websocket(http: aiohttp.ClientSession, url: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse | None]:
    """The websocket; None where a proxy lets none through, or the server refuses it: then the record is read."""
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            socket = await http.ws_connect(f"{url}/ws", heartbeat=20, timeout=aiohttp.ClientWSTimeout(ws_close=2))
    except aiohttp.ClientConnectorError as error:
        raise answers.no_answer(url, error) from error
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        yield None
        return
    async with socket:
        yield socket


async def _order(http: aiohttp.ClientSession, url: str, request: dict[str, Any]) -> RemoteImage:
    """The recorded image. A lost answer is asked for again: the key makes it one image."""
    headers = {"Prefer": "respond-async", "Idempotency-Key": secrets.token_hex(16)}
    return await _repeated(
        lambda: answers.image_of(http, "POST", f"{url}/v1/images/generations", json=request, headers=headers)
    )


async def _picture(http: aiohttp.ClientSession, url: str, image_url: str, wanted: str | None) -> bytes:
    """The picture in the format that is wanted; the server converts it."""
    if wanted is not None:
        image_url += f"{'&' if '?' in image_url else '?'}format={wanted}"
    target = urljoin(f"{url}/", image_url)
    if urlsplit(target).scheme not in {"http", "https"}:
        raise CommandFailed(f"the server names no web address of the picture: {image_url}")
    try:
        return await _repeated(lambda: answers.picture(http, target, wanted))
    except NoAnswer:
        # the server does not know the path below which a proxy serves it (PUBLIC_URL is not set)
        if not urlsplit(url).path or not image_url.startswith("/"):
            raise
        return await answers.picture(http, url + image_url, wanted)


async def _repeated(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer; asked for again if none came that may come soon."""
    for pause_s in REPEATS_S:
        try:
            return await ask()
        except NoAnswer as error:
            if not error.is_passing:
                raise
            await asyncio.sleep(pause_s)
    return await ask()


class _Following:
    """Follows one image: by events, and by reading its record when there are none."""

    def __init__(
        self, http: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse | None, url: str, image: RemoteImage
    ) -> None:
        self._http = http
        self._socket = socket
        self._image = image
        self._url = f"{url}/api/images/{image.id}/"
        self._answered_at = asyncio.get_running_loop().time()

    async def until_final(self) -> RemoteImage:
        """Show the progress until the image is final; returns its record."""
        _draw_bar(self._image.status, 0, 1)
        try:
            while not self._image.is_final:
                frame = await self._frame()
                if frame is None:
                    await self._read()
                else:
                    self._take(frame)
        finally:
            _draw_bar(self._image.status, int(self._image.is_final), 1)
            _end_line()
        return self._image

    def _take(self, frame: answers.Frame) -> None:
        if frame.type == "image.deleted":
            raise CommandFailed("the image was deleted")
        try:
            if frame.type == "image.progress":
                progress = ProgressLine.model_validate(frame.data)
                _draw_bar("painting", progress.step, progress.steps)
            else:
                self._image = RemoteImage.model_validate(frame.data)
        except ValidationError:
            pass  # of a newer server: the record is read in time

    async def _read(self) -> None:
        try:
            self._image = await answers.image_of(self._http, "GET", self._url)
            self._answered_at = asyncio.get_running_loop().time()
        except NoAnswer as error:
            if asyncio.get_running_loop().time() - self._answered_at > PATIENCE_S:
                raise CommandFailed(f"{error}; the image may still be painted: {self._url}") from error

    async def _frame(self) -> answers.Frame | None:
        """The next event of this image; None if there is none for a while."""
        try:
            async with asyncio.timeout(POLL_S):
                while self._socket is not None:
                    message = await self._socket.receive()
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        self._socket = None  # it is closed: read the record from now on
                    elif (frame := answers.frame_of(message.data)) and frame.subject == self._image.id:
                        return frame
                await asyncio.sleep(POLL_S)
        except (TimeoutError, aiohttp.ClientError, OSError):
            pass
        return None


def _draw_bar(label: str, step: int, steps: int) -> None:
    if not sys.stderr.isatty():
        return
    done = BAR_WIDTH * min(step, steps) // steps
    counted = f" {step}/{steps}" if steps > 1 else ""
    sys.stderr.write(f"\r\x1b[K{label:>10} [{'#' * done}{'.' * (BAR_WIDTH - done)}]{counted}")
    sys.stderr.flush()


def _end_line() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\n")
