"""The caller of a request: the owner of its bearer token or API key, or `local` if no identity is configured.

Authorization: Bearer darkroom_…  ─▶ an API key: its entry in the store
Authorization: Bearer eyJ…        ─▶ a JWT: its signature and its claims
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from aiohttp import web

from common.application.api_keys import ApiKeyStore, looks_like_key
from common.domain.errors import Misconfigured, Unauthorized
from common.runtime.addresses import LOOPBACK
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from common.store.port import Store
from services.api.auth.jwks import Jwks
from services.api.auth.tokens import Tokens

LOCAL: Final = "local"
_SCHEME: Final = "bearer "
_SIGNING_KEYS: Final = "32 characters or more, the same for every api: `openssl rand -hex 32`"


@dataclass(frozen=True, slots=True)
class Caller:
    """An owner, until when the credential is valid, and of an API key its id and its webhook."""

    owner: str
    until: datetime | None = None
    key_id: str | None = None
    webhook: str | None = field(default=None, repr=False)


class Identity:
    """Authenticates every request; caches nothing about a caller."""

    def __init__(self, settings: Settings, *, store: Store, clock: Clock, jwks: Jwks | None = None) -> None:
        self.is_on = settings.has_identity
        self._keys = ApiKeyStore(store, clock)
        self._tokens = Tokens(settings, jwks=jwks, clock=clock)
        self._clock = clock

    async def caller(self, request: web.Request, *, other_header: str | None = None) -> Caller:
        """`other_header` may hold the bare credential; it must not make up for an invalid Authorization.

        Raises:
            Unauthorized: no valid token or key; the error is the same for each reason.
        """
        if not self.is_on:
            return Caller(LOCAL)
        given = request.headers.getall("Authorization", [])
        if other_header is not None and not given:
            given = [_SCHEME + value for value in request.headers.getall(other_header, [])]
        if len(given) != 1 or not given[0].lower().startswith(_SCHEME):
            raise Unauthorized
        credential = given[0][len(_SCHEME) :].strip()
        if looks_like_key(credential):
            key = await self._keys.find(credential)
            if key is None:
                raise Unauthorized
            return Caller(key.owner, key.expires_at, key.id, key.webhook)
        claims = await self._tokens.verify(credential)
        return Caller(claims.owner, claims.until)

    async def is_still_valid(self, caller: Caller) -> bool:
        """Whether an earlier caller would be accepted now."""
        if caller.until is not None and caller.until <= self._clock.now():
            return False
        return caller.key_id is None or await self._keys.is_valid(caller.key_id)


def require_valid_identity(settings: Settings) -> None:
    """Check the settings of identity together, before the api listens.

    Raises:
        Misconfigured: a setting is missing, or the address is open to others without identity.
    """
    if settings.jwt_secret or settings.jwt_jwks_url:
        for name in ("jwt_issuer", "jwt_audience"):
            if not getattr(settings, name):
                raise _missing(name, "or tokens issued for other services would be accepted")
    if settings.has_identity and not settings.media_signing_keys:
        raise _missing("media_signing_keys", _SIGNING_KEYS)
    if settings.share_links and not settings.media_signing_keys:
        raise _missing("media_signing_keys", _SIGNING_KEYS, by="SHARE_LINKS")
    if not settings.has_identity and settings.api_host not in LOOPBACK and not settings.allow_anonymous:
        raise Misconfigured(
            f"API_HOST: {settings.api_host} is open to others, but no identity is configured (docs/security.md); "
            "configure one, or set ALLOW_ANONYMOUS=true to let everyone act as one owner",
            code="bad_setting",
        )


def _missing(name: str, why: str, *, by: str = "identity") -> Misconfigured:
    return Misconfigured(f"{name.upper()}: required with {by}, {why}", code="bad_setting")
