"""Client of a running server for the images of one request, from the request to the files.

websocket ─▶ POST ─▶ events, or GET every 2 s where a proxy lets no websocket through ─▶ GET each picture ─▶ its file
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp
from pydantic import ValidationError

from services.cli import answers, output_file
from services.cli.answers import NoAnswer, ProgressLine, RemoteImage
from services.cli.console import USAGE_ERROR, CommandFailed, print_message

BAR_WIDTH: Final = 30  # characters
POLL_S: Final = 2.0  # without an event for this long the record is read: an event may be missed, the record counts
PATIENCE_S: Final = 60.0  # without any answer while the image is waited for: a server restarts in less
REPEATS_S: Final = (1.0, 3.0, 6.0)  # before the same request is sent again, with the same key
HANDSHAKE_S: Final = 10.0  # then the websocket does without
T = TypeVar("T")


def run(*, url: str, request: dict[str, Any], output: Path | None, token: str | None) -> int:
    """Write the files, print their paths and return 0.

    Raises:
        CommandFailed: with the reason; of several images, those that are completed are written nevertheless.
    """
    count = request.get("num_images", 1)
    if output == output_file.STDOUT and count > 1:
        raise CommandFailed("-o -: stdout holds one picture; use a file name with --num-images", status=USAGE_ERROR)
    names = [output] if output is None or count <= 1 else [_numbered(output, index) for index in range(count)]
    try:
        with ExitStack() as reserved:
            for name in names:
                reserved.enter_context(output_file.reserved(name))
            asyncio.run(_generate(url.rstrip("/"), request, output, token))
    except KeyboardInterrupt:
        _end_line()
        print_message("stopped waiting; a request that was sent is not cancelled")
        return 130
    return 0


async def _generate(url: str, request: dict[str, Any], output: Path | None, token: str | None) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)
    # the websocket comes before the request, so that no event of the images is missed
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as http, _websocket(http, url) as socket:
        images = await _order(http, url, request)
        images = await _Following(http, socket, url, images).until_final()
    failures: list[CommandFailed] = []
    # the URL is signed if the server requires it; the token must not be sent to another host that serves the files
    async with aiohttp.ClientSession(timeout=timeout) as without_token:
        for index, image in enumerate(images):
            number = index if len(images) > 1 else None
            try:
                path = _path(output, images[0], image, number)
                await _save(without_token, url, image, path, wanted=output_file.format_of(output))
            except CommandFailed as error:
                failures.append(error if number is None else CommandFailed(f"image {index}: {error}"))
    if failures:
        raise failures[0] if len(failures) == 1 else CommandFailed("; ".join(map(str, failures)))


async def _save(http: aiohttp.ClientSession, url: str, image: RemoteImage, path: Path, *, wanted: str | None) -> None:
    if image.status != "completed" or image.image_url is None:
        error = image.error or answers.AnswerFailure(code=image.status, detail="there is no picture")
        raise CommandFailed(f"{error.code}: {error.detail}")
    content = await _picture(http, url, image.image_url, wanted)
    try:
        output_file.write(path, content)
    except CommandFailed as error:
        raise CommandFailed(f"{error}; the image is at {image.image_url}") from error
    if path != output_file.STDOUT:
        sys.stdout.write(f"{path}\n")


def _path(output: Path | None, first: RemoteImage, image: RemoteImage, number: int | None) -> Path:
    if output is None:
        output = Path(first.id).with_suffix(Path(image.file_name).suffix)
    return output if number is None else _numbered(output, number)


def _numbered(path: Path, index: int) -> Path:
    """`a-2.png` for `a.png`: the name of one of several files."""
    return path.with_name(f"{path.stem}-{index}{path.suffix}")


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


async def _order(http: aiohttp.ClientSession, url: str, request: dict[str, Any]) -> list[RemoteImage]:
    """The recorded images. A lost answer is asked for again: the key makes it one request."""
    headers = {"Prefer": "respond-async", "Idempotency-Key": secrets.token_hex(16)}
    return await _repeated(
        lambda: answers.images_of(http, "POST", f"{url}/v1/images/generations", json=request, headers=headers)
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
    """Follows the images of a request: by events, and by reading their records when there are none."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        socket: aiohttp.ClientWebSocketResponse | None,
        url: str,
        images: list[RemoteImage],
    ) -> None:
        self._http = http
        self._socket = socket
        self._images = {image.id: image for image in images}
        self._url = f"{url}/api/images/"
        self._answered_at = asyncio.get_running_loop().time()

    async def until_final(self) -> list[RemoteImage]:
        """Show the progress until all images are final; returns their records."""
        self._draw()
        try:
            while self._open:
                frame = await self._frame()
                if frame is None:
                    await self._read()
                else:
                    self._take(frame)
        finally:
            self._draw()
            _end_line()
        return list(self._images.values())

    @property
    def _open(self) -> list[RemoteImage]:
        return [image for image in self._images.values() if not image.is_final]

    def _take(self, frame: answers.Frame) -> None:
        image = self._images[frame.subject or ""]
        try:
            if frame.type == "image.deleted":
                self._end(image, code="deleted", detail="the image was deleted")
            elif frame.type == "image.progress":
                progress = ProgressLine.model_validate(frame.data)
                self._draw("painting", progress.step, progress.steps)
            else:
                self._images[image.id] = RemoteImage.model_validate({"id": image.id, **(frame.data or {})})
                self._draw()
        except (ValidationError, TypeError):
            pass  # of a newer server: the record is read in time

    def _end(self, image: RemoteImage, *, code: str, detail: str) -> None:
        failure = answers.AnswerFailure(code=code, detail=detail)
        self._images[image.id] = image.model_copy(update={"status": "cancelled", "error": failure})

    async def _read(self) -> None:
        for image in self._open:
            url = f"{self._url}{image.id}/"
            try:
                self._images[image.id] = await answers.image_of(self._http, "GET", url)
                self._answered_at = asyncio.get_running_loop().time()
            except NoAnswer as error:
                if asyncio.get_running_loop().time() - self._answered_at > PATIENCE_S:
                    raise CommandFailed(f"{error}; the image may still be painted: {url}") from error
                return
            except CommandFailed as error:
                if len(self._images) == 1:
                    raise
                self._end(image, code="gone", detail=str(error))

    async def _frame(self) -> answers.Frame | None:
        """The next event of an image that is not final; None if there is none for a while."""
        try:
            async with asyncio.timeout(POLL_S):
                while self._socket is not None:
                    message = await self._socket.receive()
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        self._socket = None  # it is closed: read the record from now on
                    elif (frame := answers.frame_of(message.data)) and self._is_awaited(frame.subject):
                        return frame
                await asyncio.sleep(POLL_S)
        except (TimeoutError, aiohttp.ClientError, OSError):
            pass
        return None

    def _is_awaited(self, image_id: str | None) -> bool:
        return image_id is not None and image_id in self._images and not self._images[image_id].is_final

    def _draw(self, label: str | None = None, step: int = 0, steps: int = 1) -> None:
        images = list(self._images.values())
        label = label or next((image.status for image in self._open), images[-1].status)
        if len(images) == 1:
            _draw_bar(label, step or int(images[0].is_final), steps)
        else:
            ended = len(images) - len(self._open)
            _draw_bar(f"{label} {min(ended + 1, len(images))} of {len(images)}", step or int(not self._open), steps)


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
