"""Verification of bearer tokens (JWT, RFC 7519; RFC 8725 lists the known attacks).

The algorithm chooses the key, never the other way round: HS256 is verified with the secret of the settings, RS256 and
ES256 with the provider's keys. No key is used for both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import jwt
from jwt import PyJWK
from jwt.types import Options

from common.domain.errors import Invalid, Unauthorized
from common.domain.owners import parse_owner
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from services.api.auth.jwks import ALGORITHMS, Jwks

MAX_CHARS: Final = 4096  # a token of a provider has 1 to 2 kB
_OPTIONS: Final[Options] = {
    "require": ["exp", "sub", "iss", "aud"],
    # times are checked with our clock, which a test can move
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a verified token."""

    owner: str
    until: datetime


class Tokens:
    """Verifies tokens by the settings; `jwks` is None without a key set."""

    def __init__(self, settings: Settings, *, jwks: Jwks | None, clock: Clock) -> None:
        self._secret = settings.jwt_secret
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._leeway_s = settings.jwt_leeway
        self._jwks = jwks
        self._clock = clock

    async def verify(self, token: str) -> Claims:
        """
        Raises:
            Unauthorized: the token is invalid, for whatever reason.
            Unavailable: the provider's keys cannot be fetched.
        """
        if len(token) > MAX_CHARS:
            raise Unauthorized
        try:
            header = jwt.get_unverified_header(token)
            key = await self._key(header)
            payload = jwt.decode(
                token,
                key,
                algorithms=[header["alg"]],  # one of ours: `_key` has checked it
                issuer=self._issuer,
                audience=self._audience,
                options=_OPTIONS,
            )
            return self._claims(payload)
        except (jwt.PyJWTError, Invalid, ValueError, TypeError, OverflowError, RecursionError) as error:
            # neither the answer nor the log says why a token is invalid
            raise Unauthorized from error

    async def _key(self, header: dict[str, Any]) -> str | PyJWK:
        """Only `alg` and `kid` of the header are used: `jku`, `jwk`, `x5u` and `x5c` are ignored."""
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm == "HS256" and self._secret is not None:
            return self._secret
        if algorithm in ALGORITHMS and self._jwks is not None and (kid is None or isinstance(kid, str)):
            key = await self._jwks.key(kid, algorithm)
            if key is not None:
                return key
        raise Unauthorized

    def _claims(self, payload: dict[str, Any]) -> Claims:
        now_s = self._clock.now().timestamp()
        until_s = _seconds(payload["exp"]) + self._leeway_s
        begins = [_seconds(payload[claim]) for claim in ("nbf", "iat") if claim in payload]
        if until_s <= now_s or any(begin_s > now_s + self._leeway_s for begin_s in begins):
            raise Unauthorized
        return Claims(owner=parse_owner(payload["sub"]), until=datetime.fromtimestamp(until_s, UTC))


def _seconds(value: object) -> float:
    """A NumericDate (RFC 7519, section 2)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a NumericDate")
    return float(value)
