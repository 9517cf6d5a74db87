"""`darkroom generate`: order one picture from a running server, show how it comes into being, and write the file."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final

import aiohttp

BAR: Final = 30  # characters
POLL_S: Final = 2.0  # the record is asked as well: events are a hint, the record is the answer
FINAL: Final = frozenset({"completed", "failed", "cancelled"})


class Failed(Exception):
    """Said to the person as it is."""


def run(*, url: str, order: dict[str, Any], output: Path | None, token: str | None) -> int:
    """Exit status 0 with the file written, 1 with the reason on stderr."""
    try:
        path = asyncio.run(_generate(url.rstrip("/"), order, output, token))
    except Failed as failed:
        _say(f"darkroom: {failed}")
        return 1
    except aiohttp.ClientConnectorError:
        _say(f"darkroom: nothing answers at {url}; is the server running? (`darkroom up`)")
        return 1
    except (aiohttp.ClientError, TimeoutError) as error:
        _say(f"darkroom: the connection to {url} broke off: {error}")
        return 1
    except KeyboardInterrupt:
        _say("\ndarkroom: not waiting any longer; the order stands")
        return 130
    sys.stdout.write(f"{path}\n")
    return 0


async def _generate(url: str, order: dict[str, Any], output: Path | None, token: str | None) -> Path:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as http:
        # the socket first: no event of the order can be missed
        async with http.ws_connect(f"{url}/ws", heartbeat=20) as socket:
            image = await _json(
                http.post(f"{url}/v1/images/generations", json=order, headers={"Prefer": "respond-async"})
            )
            image = await _follow(http, socket, url, image)
        if image["status"] != "completed":
            error = image["error"] or {"code": image["status"], "detail": "it was cancelled"}
            raise Failed(f"{error['code']}: {error['detail']}")
    # its URL is signed where that is needed: the token is not for whoever serves the files
    async with aiohttp.ClientSession(timeout=timeout) as bare:
        content = await _bytes(bare.get(_absolute(url, image["imageUrl"])))
    path = output or Path(Path(image["imageUrl"].partition("?")[0]).name)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror}; the picture is at {image['imageUrl']}") from error
    return path


async def _follow(
    http: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse, url: str, image: dict[str, Any]
) -> dict[str, Any]:
    """The image once it is final."""
    image_id = image["id"]
    _draw("queued", 0, 1)
    while image["status"] not in FINAL:
        event = await _event(socket, image_id)
        if event is None:
            image = await _json(http.get(f"{url}/api/images/{image_id}/"))
        elif event["type"] == "image.progress":
            _draw("painting", event["data"]["step"], event["data"]["steps"])
        elif event["type"] == "image.deleted":
            raise Failed("the image was deleted")
        else:
            image = event["data"]
    _draw(image["status"], 1, 1)
    _say("")
    return image


async def _event(socket: aiohttp.ClientWebSocketResponse, image_id: str) -> dict[str, Any] | None:
    """The next event of this image; None if none comes for a while."""
    try:
        async with asyncio.timeout(POLL_S):
            async for message in socket:
                frame: dict[str, Any] = json.loads(message.data)
                if frame.get("subject") == image_id:
                    return frame
            # the socket is closed: go on by asking
            await asyncio.sleep(POLL_S)
    except TimeoutError:
        pass
    return None


def _draw(what: str, step: int, steps: int) -> None:
    if not sys.stderr.isatty():
        return
    done = BAR * step // steps
    counted = f" {step}/{steps}" if steps > 1 else ""
    sys.stderr.write(f"\r\x1b[K{what:>10} [{'#' * done}{'.' * (BAR - done)}]{counted}")
    sys.stderr.flush()


def _say(text: str) -> None:
    if text or sys.stderr.isatty():
        sys.stderr.write(f"{text}\n")


async def _json(request: Any) -> dict[str, Any]:
    async with request as response:
        body: dict[str, Any] = await response.json(content_type=None)
        if response.status >= 400:
            raise Failed(f"{body.get('code', response.status)}: {body.get('detail', 'no detail')}")
        return body


async def _bytes(request: Any) -> bytes:
    async with request as response:
        if response.status != 200:
            raise Failed(f"the picture cannot be fetched: {response.status}")
        content: bytes = await response.read()
        return content


def _absolute(url: str, path: str) -> str:
    return path if "://" in path else f"{url}{path}"
