"""Signed URLs of pictures: an `<img>` cannot send a header, so the URL itself carries the permission.

    /media/generated_images/2025/01/<id>.png?expires=1736985600&signature=…

The expiry is rounded, with another offset for each file: the URL of an image stays the same for hours, so caches
work, and not all URLs change at once. A signature is valid for its file only, and that of a picture also
for its renditions. Without identity nothing is signed.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final
from zlib import crc32

from aiohttp import web
from itsdangerous import BadSignature, Signer

from common.domain.images import picture_key_of
from common.runtime.clock import Clock
from common.runtime.settings import Settings

_SALT: Final = "darkroom.media.v1"  # the same key used elsewhere makes other signatures


class Signing:
    """Signs with the first key and accepts all of them, so that keys can be rotated without broken pictures."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._prefix = settings.media_prefix
        # an event was made by a service that may not have PUBLIC_URL set
        self._inner_prefix = settings.media_prefix.removeprefix(settings.base_path)
        self._age_s = max(1, int(settings.media_url_age))
        self._clock = clock
        # itsdangerous expects the oldest first
        keys = list(reversed(settings.media_signing_keys)) if settings.has_identity else []
        self._signer = Signer(keys, salt=_SALT, key_derivation="hmac", digest_method=hashlib.sha256) if keys else None

    def url(self, url: str) -> str:
        """The URL of a file for clients of the api, signed with identity."""
        key = url.removeprefix(self._prefix).removeprefix(self._inner_prefix)
        url = self._prefix + key if key != url else url
        query = self.query(key)
        return f"{url}?{query}" if query else url

    def query(self, key: str) -> str:
        """The signature of a file as the query of its URL; empty without identity."""
        if self._signer is None:
            return ""
        expires = self._expires(key, self._clock.now())
        signature = self._signer.get_signature(_signed(key, str(expires))).decode()
        return f"expires={expires}&signature={signature}"

    def allows(self, request: web.Request) -> bool:
        """Whether the query holds a signature of this file that has not expired."""
        expires, signature = request.query.get("expires", ""), request.query.get("signature", "")
        if self._signer is None or not (expires.isascii() and expires.isdecimal() and len(expires) <= 12):
            return False
        if int(expires) <= self._clock.now().timestamp():
            return False
        try:
            signed = _signed(picture_key_of(request.match_info["key"]), expires)
            return self._signer.verify_signature(signed, signature)
        except (BadSignature, UnicodeError):
            return False

    def _expires(self, key: str, now: datetime) -> int:
        shift = crc32(key.encode()) % self._age_s
        return (int(now.timestamp() - shift) // self._age_s + 2) * self._age_s + shift


def _signed(key: str, expires: str) -> bytes:
    return f"{key}\n{expires}".encode()
