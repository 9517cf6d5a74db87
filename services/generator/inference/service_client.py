"""HTTP requests to a foreign inference service: no redirects, no compression, bounded bodies, one error tree."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

import aiohttp
from yarl import URL

from common.domain.errors import BadImage, Denied, Misconfigured, Rejected
from common.runtime.bounded_read import TooLarge, read_body
from common.runtime.clock import Clock
from services.generator.inference.answers import CONNECT_S, connection_errors, read_json, response_error
from services.generator.inference.event_stream import LARGE

ASK_S: Final = 5.0  # for an answer about the server itself; one that paints may answer late
MAX_ASK_BYTES: Final = 4_000_000  # the settings and models of a well-filled installation
_MAX_URL: Final = 4_000  # characters
MISSING: Final = frozenset({404, 405, 501})  # statuses of a route that the server does not have


@dataclass(frozen=True, slots=True)
class ServiceUrl:
    """The parts of a URL such as `sdapi+http://user:password@host:7860/path?option=value`."""

    base: str  # http(s), without user, query and a final slash
    options: Mapping[str, str]
    credentials: str | None  # user:password
    has_path: bool

    @classmethod
    def parse(cls, url: str, *options: str) -> ServiceUrl:
        """The parts, with no other parameters than `options`.

        Raises:
            Misconfigured: without the URL in its text, since it may hold a password.
        """
        try:
            parts = urlsplit(url)
            URL(f"http://{parts.netloc}").origin()
        except ValueError as error:
            raise Misconfigured("is not a URL with a host", code="bad_setting") from error
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        if given.keys() - set(options):
            known = f"has only the parameters {', '.join(options)}" if options else "has no parameters"
            raise Misconfigured(f"this kind of URL {known}", code="bad_setting")
        host = parts.netloc.rpartition("@")[2]
        credentials = None
        if parts.username:
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        base = urlunsplit((parts.scheme.rpartition("+")[2], host, parts.path.rstrip("/"), "", ""))
        return cls(base, given, credentials, has_path=bool(parts.path.strip("/")))


def basic(credentials: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}


def bearer(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def authorization(parsed: ServiceUrl, api_key: str | None) -> dict[str, str]:
    """The header with the user of the URL, or else with the key."""
    return basic(parsed.credentials) if parsed.credentials else bearer(api_key)


class ServiceClient:
    """The session of the process, with what all requests to one service have in common."""

    def __init__(self, http: aiohttp.ClientSession, *, base: str, headers: Mapping[str, str], clock: Clock) -> None:
        self.base = base
        self.clock = clock
        self._http = http
        # identity: a small body must not unpack into a large one
        self._headers = {"Accept-Encoding": "identity", **headers}

    def at(self, base: str) -> ServiceClient:
        """The same service below another path."""
        return ServiceClient(self._http, base=base, headers=self._headers, clock=self.clock)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        limit_s: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response, whatever its status. Without `limit_s` the caller limits the time.

        Raises:
            Denied, Unreachable, Transient: there is none; also for the body that is read in the context.
        """
        timeout = aiohttp.ClientTimeout(total=limit_s, sock_connect=CONNECT_S)
        with connection_errors():
            async with self._http.request(
                method,
                URL(self.base + path, encoded=True),
                json=body,
                headers={**self._headers, **(headers or {})},
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                yield response

    async def ask(self, path: str, *, method: str = "GET", body: object = None, limit_s: float = ASK_S) -> Any:
        """The JSON of an answer about the server; None if it does not have the route.

        Raises:
            Denied: it refuses us, or answers with an error of the request.
            Unreachable, Transient: it does not answer, or not with JSON.
        """
        async with self.open(method, path, body=body, limit_s=limit_s) as response:
            if response.status in MISSING:
                return None
            if response.status != 200:
                error = await response_error(response, self.clock)
                raise Denied(error.detail) if isinstance(error, Rejected | BadImage) else error
            return await read_json(response, max_bytes=MAX_ASK_BYTES)

    async def fetch_picture(self, url: str, *, max_bytes: int) -> bytes:
        """The file at a URL in an answer of the service, if it is on the service itself.

        Raises:
            BadImage: the URL has another origin. It is not requested: it may be an address inside our network.
        """
        try:
            own = URL(self.base)
            target = own.join(URL(url[:_MAX_URL]))
            is_own = target.origin() == own.origin() and target.user is None
        except ValueError as error:
            raise BadImage("the picture is at a URL that is not valid") from error
        if not is_own:
            raise BadImage("the picture is at a URL of another origin, which is not requested")
        with connection_errors():
            async with self._http.get(
                target,
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    raise BadImage(f"the URL of the picture answers {response.status}")
                return await read_body(response, max_bytes=max_bytes)


async def read_result(response: aiohttp.ClientResponse, *, max_bytes: int) -> Any:
    """The JSON of an answer that holds a picture; a large one is parsed in a thread.

    Raises:
        BadImage: it is not JSON, or larger than a picture of `max_bytes` makes it.
    """
    limit = max_bytes * 4 // 3 + 1_000_000  # base64 makes 4 characters of 3 bytes; the fields beside it are small
    try:
        body = await read_body(response, max_bytes=limit)
        return await asyncio.to_thread(json.loads, body) if len(body) > LARGE else json.loads(body)
    except TooLarge as error:
        raise BadImage(f"the answer of the inference service has {error}") from error
    except (ValueError, RecursionError) as error:
        raise BadImage("the answer of the inference service is not JSON") from error
