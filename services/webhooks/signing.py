"""The headers of Standard Webhooks (specification version 1.0.0, "Signature scheme")."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32


def new_secret() -> str:
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signed_headers(delivery_id: str, body: str, *, keys: Sequence[str], now: datetime) -> dict[str, str]:
    """The three headers of one try; a signature for each key, so that receivers may know either of two."""
    timestamp = int(now.timestamp())
    content = f"{delivery_id}.{timestamp}.{body}".encode()
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{_signature(key, content)}" for key in keys),
    }


def _signature(key: str, content: bytes) -> str:
    secret = base64.b64decode(key.removeprefix(_PREFIX))
    return base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode()
