"""Who calls: the owner that a bearer token or an API key names. Where no identity is set up, everyone is `local`.

Authorization: Bearer darkroom_…  ─▶ an API key: its entry in the store
Authorization: Bearer eyJ…        ─▶ a JWT: its signature and its claims
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aiohttp import web

from common.application.api_keys import Keys, looks_like_key
from common.domain.errors import Misconfigured, Unauthorized
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from common.store.port import Store
from services.api.auth.jwks import Jwks
from services.api.auth.tokens import Tokens

LOCAL: Final = "local"
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_SCHEME: Final = "bearer "


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, until when that holds, and by which key, where it was one."""

    owner: str
    until: datetime | None = None
    key_id: str | None = None


class Identity:
    """Asked with every request; keeps nothing of a caller."""

    def __init__(self, settings: Settings, *, store: Store, clock: Clock, jwks: Jwks | None = None) -> None:
        self.is_on = settings.has_identity
        self._keys = Keys(store, clock)
        self._tokens = Tokens(settings, jwks=jwks, clock=clock)
        self._clock = clock

    async def caller(self, request: web.Request) -> Caller:
        """
        Raises:
            Unauthorized: no token or key, or one that does not hold; the same for each reason.
        """
        if not self.is_on:
            return Caller(LOCAL)
        given = request.headers.getall("Authorization", [])
        if len(given) != 1 or not given[0].lower().startswith(_SCHEME):
            raise Unauthorized
        credential = given[0][len(_SCHEME) :].strip()
        if looks_like_key(credential):
            key = await self._keys.find(credential)
            if key is None:
                raise Unauthorized
            return Caller(key.owner, key.expires_at, key.id)
        claims = await self._tokens.verify(credential)
        return Caller(claims.owner, claims.until)

    async def is_still_valid(self, caller: Caller) -> bool:
        """Whether a caller of a while ago would be let in now."""
        if caller.until is not None and caller.until <= self._clock.now():
            return False
        return caller.key_id is None or await self._keys.holds(caller.key_id)


def require_valid_identity(settings: Settings) -> None:
    """Look at the settings of identity as a whole, before anything listens.

    Raises:
        Misconfigured: one is missing, or the address is open to others without identity.
    """
    if settings.jwt_secret or settings.jwt_jwks_url:
        for name in ("jwt_issuer", "jwt_audience"):
            if not getattr(settings, name):
                raise _missing(name, "or tokens that were made for others would be taken here")
    if settings.has_identity and not settings.media_signing_keys:
        raise _missing("media_signing_keys", "32 characters or more, the same for every api: `openssl rand -hex 32`")
    if not settings.has_identity and settings.api_host not in LOOPBACK and not settings.allow_anonymous:
        raise Misconfigured(
            f"API_HOST: {settings.api_host} is open to others, but no identity is set up (docs/security.md); "
            "set one up, or set ALLOW_ANONYMOUS=true to let everyone act as one owner",
            code="bad_setting",
        )


def _missing(name: str, why: str) -> Misconfigured:
    return Misconfigured(f"{name.upper()}: needed with identity, {why}", code="bad_setting")
