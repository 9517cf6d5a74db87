"""The types of the settings, with the bounds of what the code can compute with.

Every number has both bounds. Within them no date, timeout or size overflows: a date of Python ends with the year 9999,
a delay in RabbitMQ with 2^32 ms (49 days), a document of MongoDB with 16 MB.
"""

from __future__ import annotations

import base64
import re
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from common.domain.errors import Invalid
from common.domain.owners import parse_owner
from common.runtime.addresses import HostName, Network

DAY_S: Final = 86_400.0
MAX_AGE_S: Final = 36_500 * DAY_S  # a hundred years
MAX_RETENTION_DAYS: Final = 36_500.0
NEVER: Final = "never"
NONE: Final = "none"
MAX_BACK_ENDS: Final = 32  # of one generator; its heartbeat lists them all

_UNITS_S: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY_S}
_NUMBER: Final = r"[0-9]{1,15}(?:\.[0-9]{1,15})?"  # ASCII only: \d also matches other scripts


def parse_duration(value: Any) -> Any:
    """`90`, `90s`, `15m`, `1h`, `7d` as seconds.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(value, str):
        return value
    found = re.fullmatch(rf"\s*({_NUMBER})\s*(ms|s|m|h|d|)\s*", value)
    if found is None:
        raise ValueError("must be a number of seconds, or a number with a unit: 90, 90s, 15m, 1h, 7d")
    return float(found[1]) * _UNITS_S[found[2]]


def _parse_durations(value: Any) -> Any:
    return tuple(parse_duration(part) for part in value.split(",")) if isinstance(value, str) else value


def _parse_retention(value: Any) -> Any:
    """A number of days; `never` as None."""
    if not isinstance(value, str) or value == NEVER:
        return None if value == NEVER else value
    days = float(value) if re.fullmatch(_NUMBER, value) else 0.0
    if not 0 < days <= MAX_RETENTION_DAYS:
        raise ValueError(f"must be a number of days above 0, up to {MAX_RETENTION_DAYS:g}, or {NEVER}")
    return days


def _parse_line(value: Any) -> Any:
    """A whole number; `none` as None."""
    try:
        return None if value == NONE else _plain_digits(value)
    except ValueError as error:
        raise ValueError(f"{error}, or {NONE}") from None


def _plain_digits(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"-?[0-9]{1,18}", value.strip()) is None:
        raise ValueError("must be a whole number")
    return int(value)


def comma_separated(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _space_separated(value: Any) -> Any:
    return tuple(value.split()) if isinstance(value, str) else value


def _list_of_urls(values: tuple[str, ...]) -> tuple[str, ...]:
    if any("," in urlsplit(value).netloc.rpartition("@")[2] for value in values):
        raise ValueError("must be URLs with spaces between them, not commas")
    if len(set(values)) < len(values):
        raise ValueError("must not name one URL twice")
    return values


def _parse_aliases(value: Any) -> Any:
    return tuple(part.split("=", 1) for part in re.split(r"[\s,]+", value) if part) if isinstance(value, str) else value


def _alias(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(1 <= len(name) <= 100 for name in value):
        raise ValueError("must be pairs of a name and a model: dall-e-3=sdxl gpt-image-1=flux")
    return tuple(value)


def _origin(value: str) -> str:
    is_site = re.fullmatch(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?", value)
    # of a desktop shell or a browser extension: tauri://localhost, app://., chrome-extension://<id>
    is_app = re.fullmatch(r"(?!https?:|file:)[a-z][a-z0-9+.-]*://[A-Za-z0-9._-]+", value)
    if is_site is None and is_app is None:
        raise ValueError("must be origins in lower case without a path: https://app.example.org,http://localhost:3000")
    return value


def _webhook_secret(value: str) -> str:
    try:
        is_secret = value.startswith("whsec_") and 24 <= len(base64.b64decode(value[6:], validate=True)) <= 64
    except ValueError:
        is_secret = False
    if not is_secret:
        raise ValueError("must be secrets of `darkroom webhooks secret`: whsec_ and 24 to 64 bytes as base64")
    return value


def _host(value: str) -> str:
    labels = value.removesuffix(".").split(".")
    if not all(re.fullmatch(r"[A-Za-z0-9_:%-]{1,63}", label) for label in labels) or len(value) > 253:
        raise ValueError("must be the name or the address of a host")
    return value


def _owner(value: str) -> str:
    try:
        return parse_owner(value)
    except Invalid as error:
        raise ValueError("must be ids of owners, as tokens and keys name them: ada,ops") from error


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_url = bool(parts.scheme and parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_url = False
    if not is_url:
        raise ValueError("must be a URL: https://host:port/path")
    return value


Count = Annotated[int, BeforeValidator(_plain_digits)]  # each use of it adds both bounds
Seconds = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(parse_duration)]
Age = Annotated[Seconds, Field(gt=0, le=MAX_AGE_S)]  # subtracted from or added to the time of now
Interval = Annotated[Seconds, Field(ge=0.001, le=30 * DAY_S)]  # waits in the broker, which counts milliseconds
AnnounceInterval = Annotated[Seconds, Field(ge=0.1, le=3600)]  # four of them decide that a generator is gone
Intervals = Annotated[tuple[Interval, ...], Field(min_length=1, max_length=20), BeforeValidator(_parse_durations)]
Timeout = Annotated[Seconds, Field(ge=0.001, le=DAY_S)]  # the system calls that wait take less than 24.8 days
Days = Annotated[float | None, BeforeValidator(_parse_retention)]
Secret = Annotated[str, Field(min_length=32)]  # HMAC-SHA256 needs a key as long as its hash (RFC 7518, section 3.2)
Secrets = Annotated[tuple[Secret, ...], BeforeValidator(comma_separated)]
# Standard Webhooks, "Signature scheme"; each adds a signature to a header of every delivery
WebhookSecrets = Annotated[
    tuple[Annotated[str, AfterValidator(_webhook_secret)], ...],
    Field(max_length=10),
    BeforeValidator(comma_separated),
]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(comma_separated)]
# each place in a line is a key of the store, looked up by a hundred
InLine = Annotated[Annotated[int, Field(ge=0, le=10_000)] | None, BeforeValidator(_parse_line)]
Host = Annotated[str, AfterValidator(_host)]
Url = Annotated[str, AfterValidator(_url)]
HttpUrl = Annotated[Url, Field(pattern=r"^https?://")]
Urls = Annotated[
    tuple[Url, ...], Field(max_length=MAX_BACK_ENDS), BeforeValidator(_space_separated), AfterValidator(_list_of_urls)
]
HostNames = Annotated[tuple[HostName, ...], BeforeValidator(comma_separated)]
Owners = Annotated[tuple[Annotated[str, AfterValidator(_owner)], ...], BeforeValidator(comma_separated)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(comma_separated)]
Aliases = Annotated[
    tuple[Annotated[tuple[str, str], BeforeValidator(_alias)], ...],
    Field(max_length=100),
    BeforeValidator(_parse_aliases),
]
Prefix = Annotated[str, Field(pattern=r"^[a-z0-9.-]{0,40}$")]
Port = Annotated[Count, Field(ge=0, le=65_535)]
Workers = Annotated[Count, Field(ge=1, le=64)]
# of the hourly limits: an entry of the store names each image of an hour, at about 100 bytes
PerHour = Annotated[Count, Field(ge=0, le=100_000)]
