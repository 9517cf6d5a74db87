"""One try of a delivery over HTTP."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ssl import SSLContext, SSLError
from typing import Final

import aiohttp
from yarl import URL

from common.application.webhooks.deliveries import WebhookDelivery
from common.application.webhooks.destinations import Destinations
from common.domain.errors import Forbidden
from common.runtime.addresses import is_ip
from common.runtime.bounded_read import TooLarge, read_body
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from common.runtime.tracing.http import client_tracing
from services.webhooks.resolving import AddressRefused, CheckedResolver, LookUp
from services.webhooks.signing import signed_headers

log = logging.getLogger(__name__)

MAX_ANSWER: Final = 16_384  # bytes; the body means nothing, it is read so that the receiver can write it
ANSWER_S: Final = 1.0  # for reading it
_HEADERS: Final = {"Content-Type": "application/json", "User-Agent": "Darkroom-Webhooks", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class WebhookAnswer:
    """`status`, or the reason why there is none; `retry_after_s` as the receiver asks for it."""

    status: int | None = None
    error: str | None = None
    retry_after_s: float = 0

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class WebhookSender:
    settings: Settings
    destinations: Destinations
    clock: Clock
    resolver: CheckedResolver
    session: aiohttp.ClientSession

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        settings: Settings,
        clock: Clock,
        *,
        look_up: LookUp = socket.getaddrinfo,
        tls: SSLContext | bool = True,
    ) -> AsyncIterator[WebhookSender]:
        """A sender with its own connections and threads; a connection is used once."""
        destinations = Destinations.of(settings)
        executor = ThreadPoolExecutor(settings.webhook_concurrency, thread_name_prefix="webhook-dns")
        resolver = CheckedResolver(destinations, executor, look_up)
        # a connection that is kept would be used for a name that has another address by now
        connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True, limit=0, ssl=tls)
        try:
            async with aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # that of the whole try is below
                trust_env=False,  # a proxy would resolve the name itself
                auto_decompress=False,
                trace_configs=client_tracing(),
            ) as session:
                yield cls(settings, destinations, clock, resolver, session)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)

    async def send(self, delivery: WebhookDelivery) -> WebhookAnswer:
        """Send the delivery once; it never raises."""
        try:
            self.destinations.require(delivery.url)  # the settings may have changed since
            async with asyncio.timeout(self.settings.webhook_timeout):
                return await self._send(delivery)
        except (TimeoutError, Forbidden, AddressRefused, aiohttp.ClientError, OSError, ValueError) as error:
            return WebhookAnswer(error=_reason(error))
        except Exception as error:
            log.exception("webhook %s failed", delivery.id)
            return WebhookAnswer(error=type(error).__name__)

    async def _send(self, delivery: WebhookDelivery) -> WebhookAnswer:
        if is_ip(delivery.host):  # the client does not ask the resolver for it
            self.resolver.require(delivery.host, delivery.host)
        keys, now = self.settings.webhook_secrets, self.clock.now()
        headers = {**_HEADERS, **signed_headers(delivery.id, delivery.body, keys=keys, now=now)}
        async with self.session.post(
            URL(delivery.url, encoded=True), data=delivery.body.encode(), headers=headers, allow_redirects=False
        ) as response:
            with suppress(TimeoutError, TooLarge, aiohttp.ClientError, OSError):
                async with asyncio.timeout(ANSWER_S):
                    await read_body(response, max_bytes=MAX_ANSWER)
            wanted_s = self._retry_after_s(response.headers.get("Retry-After", ""))
            return WebhookAnswer(status=response.status, retry_after_s=wanted_s)

    def _retry_after_s(self, value: str) -> float:
        """Seconds or a date (RFC 9110, section 10.2.3); 0 for anything else."""
        if value.isascii() and value.isdecimal():
            return float(value[:9])
        try:
            return max(0.0, (parsedate_to_datetime(value) - self.clock.now()).total_seconds())
        except (ValueError, TypeError, OverflowError):  # TypeError: a date without a zone
            return 0


def _reason(error: Exception) -> str:
    """A short code: what a receiver wrote is not repeated, and an address may be a secret."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return next((reason for kind, reason in _REASONS.items() if isinstance(cause, kind)), type(cause).__name__)


_REASONS: Final[dict[type[Exception], str]] = {  # the first that fits
    AddressRefused: "address_refused",
    Forbidden: "address_refused",
    socket.gaierror: "name_not_resolved",
    SSLError: "tls_failed",
    ConnectionRefusedError: "connection_refused",
    ConnectionError: "connection_closed",
    aiohttp.ServerDisconnectedError: "connection_closed",
    TimeoutError: "timeout",
}
