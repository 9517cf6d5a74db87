"""The public keys of the identity provider (RFC 7517), cached until a token names an unknown key.

    a token names a kid ──▶ known: used at once ─────────────────────────────▶ key
                        └─▶ unknown: one fetch for all, at most every 10 s ──▶ key, or none

The URL comes from the settings. Nothing in a token (`jku`, `x5u`, a `kid` that looks like a path) causes a request.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, Final

import aiohttp
import jwt
from jwt import PyJWK

from common.domain.errors import Unavailable
from common.runtime.bounded_read import TooLarge, read_body
from common.runtime.clock import Clock

log = logging.getLogger(__name__)

ALGORITHMS: Final = frozenset({"RS256", "ES256"})
FRESH_S: Final = 600.0  # a key that was removed from the set is refused after this time at the latest
COOLDOWN_S: Final = 10.0  # forged kids must not cause a flood of requests to the provider
STALE_S: Final = 86_400.0  # after an outage of this length the cached keys are no longer used
_TIMEOUT_S: Final = 3.0
_MAX_BYTES: Final = 256_000
_MIN_RSA_BITS: Final = 2048  # RFC 7518, section 3.3


class Jwks:
    """The key set of one provider; `run` keeps it fresh, so that requests need not wait for it."""

    def __init__(self, http: aiohttp.ClientSession, *, url: str, clock: Clock) -> None:
        self._http = http
        self._url = url
        self._clock = clock
        self._keys: list[PyJWK] = []
        self._fetched_s: float | None = None
        self._attempted_s = float("-inf")
        self._fetching = asyncio.Lock()

    async def run(self) -> None:
        """Fetch the set now, and again whenever it is old; never returns."""
        while True:
            async with self._fetching:
                await self._fetch()
            await asyncio.sleep(FRESH_S if self._fetched_s == self._attempted_s else COOLDOWN_S)

    async def key(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """The key with this id for this algorithm; without an id, the only key for the algorithm.

        Raises:
            Unavailable: the set could not be fetched for too long.
        """
        found = self._find(kid, algorithm)
        if found is None:
            await self._refetch()
            found = self._find(kid, algorithm)
        if self._fetched_s is None or self._clock.monotonic() - self._fetched_s > STALE_S:
            raise Unavailable("identity", "the keys of the identity provider cannot be fetched")
        return found

    def _find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        fitting = [key for key in self._keys if key.algorithm_name == algorithm]
        if kid is None:
            return fitting[0] if len(fitting) == 1 else None
        return next((key for key in fitting if key.key_id == kid), None)

    async def _refetch(self) -> None:
        async with self._fetching:  # one fetch at a time: the others use its result
            if self._clock.monotonic() - self._attempted_s >= COOLDOWN_S:
                await self._fetch()

    async def _fetch(self) -> None:
        self._attempted_s = self._clock.monotonic()
        try:
            async with self._http.get(
                self._url,
                headers={"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
                allow_redirects=False,
            ) as response:
                body = await read_body(response, max_bytes=_MAX_BYTES)
                key_set = json.loads(body) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError, TooLarge, ValueError, RecursionError) as error:
            log.warning("the keys of the identity provider cannot be fetched: %s", type(error).__name__)
            return
        if not isinstance(key_set, dict) or not isinstance(key_set.get("keys"), list):
            log.warning("the identity provider answered %d without a key set", response.status)
            return
        # an empty set is believed: the provider has revoked its keys
        self._keys = usable(key_set)
        if not self._keys:
            log.warning("the identity provider publishes no usable key: no token of it is valid")
        self._fetched_s = self._attempted_s


def usable(key_set: dict[str, Any]) -> list[PyJWK]:
    """The public signature keys of the set; others are ignored, symmetric ones above all."""
    found: list[PyJWK] = []
    for data in key_set["keys"]:
        if not isinstance(data, dict) or not _is_for_signatures(data):
            continue
        try:
            key = PyJWK(data)
        except (jwt.PyJWTError, ValueError, TypeError):
            log.warning("a key of the identity provider cannot be read")
            continue
        if key.algorithm_name in ALGORITHMS and _is_long_enough(key):
            found.append(key)
    return found


def _is_for_signatures(data: dict[str, Any]) -> bool:
    is_private = "d" in data  # a private key published by mistake is known to everyone
    return data.get("kty") in {"RSA", "EC"} and data.get("use", "sig") == "sig" and not is_private


def _is_long_enough(key: PyJWK) -> bool:
    bits: int = getattr(key.key, "key_size", 0)
    return key.key_type == "EC" or bits >= _MIN_RSA_BITS
