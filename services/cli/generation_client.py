"""Client of a running server for one image, from the request to the file."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final

import aiohttp

from services.cli.console import CommandFailed, print_message

BAR_WIDTH: Final = 30  # characters
POLL_S: Final = 2.0  # without an event for this long the record is read: an event may be missed, the record counts
FINAL: Final = frozenset({"completed", "failed", "cancelled"})


def run(*, url: str, request: dict[str, Any], output: Path | None, token: str | None) -> int:
    """Write the file, print its path and return 0.

    Raises:
        CommandFailed: with the reason.
    """
    try:
        path = asyncio.run(_generate(url.rstrip("/"), request, output, token))
    except aiohttp.ClientConnectorError as error:
        raise CommandFailed(f"no server answers at {url}; `darkroom up` starts one") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise CommandFailed(f"the connection to {url} broke: {error}") from error
    except KeyboardInterrupt:
        _end_line()
        print_message("stopped waiting; a request that was sent is not cancelled")
        return 130
    sys.stdout.write(f"{path}\n")
    return 0


async def _generate(url: str, request: dict[str, Any], output: Path | None, token: str | None) -> Path:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as http:
        # connect before the request, so that no event of the image is missed
        async with http.ws_connect(f"{url}/ws", heartbeat=20) as socket:
            image = await _json(
                http.post(f"{url}/v1/images/generations", json=request, headers={"Prefer": "respond-async"})
            )
            image = await _follow(http, socket, url, image)
        if image["status"] != "completed":
            error = image["error"] or {"code": image["status"], "detail": "the image was cancelled"}
            raise CommandFailed(f"{error['code']}: {error['detail']}")
    # the URL is signed if the server requires it; the token must not be sent to another host that serves the files
    async with aiohttp.ClientSession(timeout=timeout) as without_token:
        content = await _bytes(without_token.get(_absolute(url, image["imageUrl"])))
    path = output or Path(Path(image["imageUrl"].partition("?")[0]).name)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise CommandFailed(f"cannot write {path}: {error.strerror}; the image is at {image['imageUrl']}") from error
    return path


async def _follow(
    http: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse, url: str, image: dict[str, Any]
) -> dict[str, Any]:
    """Show the progress until the image is final; returns its record."""
    image_id = image["id"]
    _draw_bar("queued", 0, 1)
    while image["status"] not in FINAL:
        event = await _event(socket, image_id)
        if event is None:
            image = await _json(http.get(f"{url}/api/images/{image_id}/"))
        elif event["type"] == "image.progress":
            _draw_bar("painting", event["data"]["step"], event["data"]["steps"])
        elif event["type"] == "image.deleted":
            raise CommandFailed("the image was deleted")
        else:
            image = event["data"]
    _draw_bar(image["status"], 1, 1)
    _end_line()
    return image


async def _event(socket: aiohttp.ClientWebSocketResponse, image_id: str) -> dict[str, Any] | None:
    """The next event of this image; None if there is none for a while."""
    try:
        async with asyncio.timeout(POLL_S):
            async for message in socket:
                frame: dict[str, Any] = json.loads(message.data)
                if frame.get("subject") == image_id:
                    return frame
            # the socket is closed: read the record from now on
            await asyncio.sleep(POLL_S)
    except TimeoutError:
        pass
    return None


def _draw_bar(label: str, step: int, steps: int) -> None:
    if not sys.stderr.isatty():
        return
    done = BAR_WIDTH * step // steps
    counted = f" {step}/{steps}" if steps > 1 else ""
    sys.stderr.write(f"\r\x1b[K{label:>10} [{'#' * done}{'.' * (BAR_WIDTH - done)}]{counted}")
    sys.stderr.flush()


def _end_line() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\n")


async def _json(request: Any) -> dict[str, Any]:
    async with request as response:
        body: dict[str, Any] = await response.json(content_type=None)
        if response.status >= 400:
            raise CommandFailed(f"{body.get('code', response.status)}: {body.get('detail', 'no detail')}")
        return body


async def _bytes(request: Any) -> bytes:
    async with request as response:
        if response.status != 200:
            raise CommandFailed(f"cannot fetch the image: the server answered {response.status}")
        content: bytes = await response.read()
        return content


def _absolute(url: str, path: str) -> str:
    return path if "://" in path else f"{url}{path}"
