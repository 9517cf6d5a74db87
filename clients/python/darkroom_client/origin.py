"""The one origin that credentials are sent to."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from darkroom_client.errors import Misconfigured

LOCAL: Final = "http://127.0.0.1:8000"
_PORTS: Final = {"http": 80, "https": 443}
# RFC 9110, section 5.5, without the bytes above ASCII that it calls obsolete; h11 refuses spaces at the ends
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"([!-~]([ \t!-~]*[!-~])?)?")
_TOKEN: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Origin:
    """A Darkroom server; `url` may have a path, below which a proxy serves it. `headers` are sent to it alone."""

    url: str
    headers: Mapping[str, str]

    @classmethod
    def of(cls, url: str | None, token: str | None, headers: Mapping[str, str] | None) -> Origin:
        """The server at the URL; without one, that of DARKROOM_URL with DARKROOM_TOKEN, else one on this machine.

        The token of the environment is for the server of the environment: it is not sent to a URL that code names.

        Raises:
            Misconfigured: the URL, the token or a header cannot be used.
        """
        if url is None:
            url = os.environ.get("DARKROOM_URL") or LOCAL
            token = token if token is not None else os.environ.get("DARKROOM_TOKEN")
        sent = dict(headers or {})
        for name, value in sent.items():
            if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):  # the value may be a secret
                raise Misconfigured(f"header {name!r}: its name and its value must consist of visible ASCII characters")
        if token:
            if not _TOKEN.fullmatch(token):
                raise Misconfigured("the token must consist of visible ASCII characters, without spaces")
            sent["Authorization"] = f"Bearer {token}"
        return cls(_checked(url), sent)

    def path(self, path: str) -> str:
        """The URL of a route."""
        return self.url + path

    def image(self, image_id: str, more: str = "") -> str:
        return f"{self.url}/api/images/{quote(image_id, safe='')}/{more}"

    def websocket(self, after: str | None) -> str:
        query = f"?after={quote(after, safe='')}" if after else ""
        return f"ws{self.url.removeprefix('http')}/ws{query}"

    def headers_for(self, url: str) -> dict[str, str]:
        """The credentials for a URL: none for another origin."""
        return dict(self.headers) if self.is_own(url) else {}

    def is_own(self, url: str) -> bool:
        return _origin(url) == _origin(self.url)

    def picture(self, image_url: str) -> str:
        """The URL of a picture, which the server may name without its own address."""
        return urljoin(f"{self.url}/", image_url)

    def picture_below(self, image_url: str) -> str | None:
        """The URL if the server does not know the path below which a proxy serves it (its PUBLIC_URL is not set)."""
        return self.url + image_url if urlsplit(self.url).path and image_url.startswith("/") else None


def is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in _PORTS and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    return scheme, (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(scheme)


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Misconfigured(f"{url!r} is not a valid URL: {error}", code="invalid_url") from error
    if parts.username is not None:
        text = "the URL of the server must not hold a user or a password; use a token"
        raise Misconfigured(text, code="invalid_url")
    if not _is_complete(parts) or port == 0:
        text = f"the URL of the server must be http://host:port or https://host/path/, not {url!r}"
        raise Misconfigured(text, code="invalid_url")
    return url.rstrip("/")


def _is_complete(parts: SplitResult) -> bool:
    return parts.scheme in _PORTS and bool(parts.hostname) and not parts.query and not parts.fragment
