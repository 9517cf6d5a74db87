"""What both clients are made of: the operations with their configuration, and the options of the libraries below."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import httpx2

from darkroom_client.listening import Following, Listening
from darkroom_client.models import HistoryItem, Image
from darkroom_client.operations import ImageOperations
from darkroom_client.orders import OrderOperations
from darkroom_client.origin import Origin
from darkroom_client.pictures import FORMATS, PictureFormat, PictureOperations, Wanted
from darkroom_client.retries import Retries

CONNECT_S: Final = 10.0
MAX_FRAME: Final = 32_000_000  # bytes; a hello with 200 images of the longest prompts has 4,000,000
PING_S: Final = 20.0  # a connection that a firewall has dropped is noticed within twice this
KEPT_CONNECTIONS: Final = 20


@dataclass(frozen=True, slots=True)
class Core:
    origin: Origin
    retries: Retries
    orders: OrderOperations
    images: ImageOperations
    pictures: PictureOperations
    handshake_s: float
    poll_s: float

    @classmethod
    def of(
        cls,
        url: str | None,
        *,
        token: str | None,
        headers: Mapping[str, str] | None,
        retries: Retries | None,
        handshake_s: float,
        poll_s: float,
    ) -> Core:
        origin, patience = Origin.of(url, token, headers), retries or Retries()
        images = ImageOperations(origin, patience)
        return cls(
            origin=origin,
            retries=patience,
            orders=OrderOperations(origin, patience),
            images=images,
            pictures=PictureOperations(origin, patience, images),
            handshake_s=handshake_s,
            poll_s=poll_s,
        )

    def listening(self, after: str | None, *, hints: bool) -> Listening:
        return Listening(self.origin, self.retries, after=after, hints=hints, handshake_s=self.handshake_s)

    def following(self, images: Sequence[Image]) -> Following:
        return Following(self.orders, images, handshake_s=self.handshake_s, poll_s=self.poll_s)

    def target(self, image: Wanted, path: str | Path) -> tuple[Path, PictureFormat | None]:
        """The file for a picture, and the format that its extension names."""
        target = Path(path)
        if target.is_dir():
            if isinstance(image, Image):
                return target / image.file_name, None
            return target / f"{image.id if isinstance(image, HistoryItem) else image}.png", "png"
        return target, FORMATS.get(target.suffix.lower())

    def http_options(self, context: ssl.SSLContext | None, *, trust_env: bool) -> dict[str, Any]:
        """The options of an HTTP client. It has no credential of its own: each request brings what it may send."""
        return {
            "verify": context or True,
            "trust_env": trust_env,
            "follow_redirects": False,
            "headers": {"User-Agent": user_agent()},
            # any number of orders may wait at once; waiting for a connection would look like a slow server
            "limits": httpx2.Limits(max_connections=None, max_keepalive_connections=KEPT_CONNECTIONS),
        }

    def socket_options(self, url: str, context: ssl.SSLContext | None, *, trust_env: bool) -> dict[str, Any]:
        """The options of a websocket; it trusts the same certificates as HTTP."""
        is_secure = url.startswith("wss:")
        return {
            "ssl": (context or httpx2.create_ssl_context(trust_env=trust_env)) if is_secure else None,
            "user_agent_header": user_agent(),
            "proxy": True if trust_env else None,
            "compression": None,
            "max_size": MAX_FRAME,
            "ping_interval": PING_S,
            "ping_timeout": PING_S,
            "close_timeout": 2,
        }


def bare_timeout(read_s: float) -> httpx2.Timeout:
    return httpx2.Timeout(read_s, connect=CONNECT_S, pool=None)


def user_agent() -> str:
    try:
        return f"darkroom-client/{version('darkroom-client')}"
    except PackageNotFoundError:  # from a folder that is not installed
        return "darkroom-client"


def write_file(path: Path, content: bytes) -> Path:
    """Write a whole file or none: it is replaced when all bytes are there."""
    beside = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with beside.open("xb") as file:
            file.write(content)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return path
