"""The limits of an owner as response headers: `RateLimit-Policy` is what they are, `RateLimit` what is left.

    RateLimit-Policy: "hour";q=50;w=3600, "concurrent";q=2;qu="concurrent-requests"
    RateLimit: "hour";r=49;t=3600

Source: draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4. A draft, so `GET /api/limits/` returns the same.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final

from common.domain.errors import LimitReached
from common.domain.quotas import HOUR, Window
from common.runtime.settings import Settings

POLICY: Final = "RateLimit-Policy"
REMAINING: Final = "RateLimit"
_NAMES: Final = {"hourly_limit": "hour", "concurrent_limit": "concurrent"}


def policy_header(settings: Settings) -> dict[str, str]:
    """The limits; no header without a limit."""
    parts = []
    if settings.requests_per_hour:
        parts.append(f'"hour";q={settings.requests_per_hour};w={int(HOUR.total_seconds())}')
    if settings.concurrent_requests:
        parts.append(f'"concurrent";q={settings.concurrent_requests};qu="concurrent-requests"')
    return {POLICY: ", ".join(parts)} if parts else {}


def remaining_header(window: Window, *, settings: Settings, now: datetime) -> dict[str, str]:
    """`r` more images fit into the hour; in `t` seconds its oldest one leaves it."""
    if not settings.requests_per_hour or not window.entries:
        return {}
    remaining = max(0, settings.requests_per_hour - len(window.entries))
    oldest_leaves_s = (window.entries[0][0] + HOUR - now).total_seconds()
    return {REMAINING: f'"hour";r={remaining};t={_whole_seconds(oldest_leaves_s)}'}


def refusal_headers(error: LimitReached) -> dict[str, str]:
    """When to retry, and which limit is used up."""
    retry_after = _whole_seconds(error.retry_after_s)
    headers = {"Retry-After": str(retry_after)}
    if name := _NAMES.get(error.code):
        headers[REMAINING] = f'"{name}";r={error.left};t={retry_after}'
    return headers


def _whole_seconds(seconds: float) -> int:
    return max(1, math.ceil(seconds))
