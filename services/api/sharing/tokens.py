"""The signed token of a share link: which link of which image it is, until when it is valid.

    /share/<image id, link id, expiry in base64>.<signature>

The signature tells a forged link (404) from one that has expired or was revoked (410), and the store holds nothing from
which a link could be made. So the list of links can show each again, signed by the newest key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from itsdangerous import Signer

from common.runtime.settings import Settings

LINK_ID_BYTES: Final = 9
_SALT: Final = "darkroom.share.v1"  # the same key used elsewhere makes other signatures
_LENGTH: Final = 40  # characters before the signature
_SIGNATURE: Final = re.compile(r"[A-Za-z0-9_-]{20,100}")  # itsdangerous ignores other characters


@dataclass(frozen=True, slots=True)
class ShareClaim:
    """What a valid token says; whether the link still exists is on record."""

    image_id: str
    link_id: str
    expires_at: datetime


class ShareTokens:
    """Signs with the first key and accepts all of them, as the URLs of pictures."""

    def __init__(self, settings: Settings) -> None:
        keys = list(reversed(settings.media_signing_keys))  # itsdangerous expects the oldest first
        self._signer = Signer(keys, salt=_SALT, key_derivation="hmac", digest_method=hashlib.sha256)

    def make(self, claim: ShareClaim) -> str:
        """The token of a link; the same again as long as the first key is the same."""
        expires_s = int(claim.expires_at.timestamp())
        payload = UUID(claim.image_id).bytes + _unpacked(claim.link_id) + expires_s.to_bytes(5, "big")
        text = base64.urlsafe_b64encode(payload)
        return f"{text.decode()}.{self._signer.get_signature(text).decode()}"

    def read(self, token: str) -> ShareClaim | None:
        """What the token says; None if it is not one of ours."""
        text, _, signature = token.partition(".")
        if len(text) != _LENGTH or not token.isascii() or not _SIGNATURE.fullmatch(signature):
            return None
        if not self._signer.verify_signature(text.encode(), signature.encode()):
            return None
        payload = _unpacked(text)
        expires_at = datetime.fromtimestamp(int.from_bytes(payload[-5:], "big"), UTC)
        link_id = base64.urlsafe_b64encode(payload[16:-5]).decode()
        return ShareClaim(str(UUID(bytes=payload[:16])), link_id, expires_at)


def new_link_id() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(LINK_ID_BYTES)).decode()


def _unpacked(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text)
    except binascii.Error as error:  # what we have signed is well-formed
        raise ValueError(f"malformed base64: {text[:50]!r}") from error
