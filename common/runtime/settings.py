"""The settings of an operator, read once from the environment and `.env` and validated at the start.

To add one, add a field to `Settings`, then write the output of `darkroom settings` into docs/settings.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from dotenv import dotenv_values
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from common.domain.errors import Misconfigured

_UNITS_S: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: Any) -> Any:
    """`90`, `90s`, `15m`, `1h`, `7d` as seconds.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)\s*", value)
    if found is None:
        raise ValueError("must be a number of seconds, or a number with a unit: 90, 90s, 15m, 1h, 7d")
    return float(found[1]) * _UNITS_S[found[2]]


def _durations(value: Any) -> Any:
    return tuple(parse_duration(part) for part in value.split(",")) if isinstance(value, str) else value


def _comma_separated(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _origin(value: str) -> str:
    if re.fullmatch(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?", value) is None:
        raise ValueError("must be origins in lower case without a path: https://app.example.org,http://localhost:3000")
    return value


Seconds = Annotated[float, BeforeValidator(parse_duration)]
Secret = Annotated[str, Field(min_length=32)]  # HMAC-SHA256 needs a key as long as its hash (RFC 7518, section 3.2)
Origin = Annotated[str, AfterValidator(_origin)]
Positive = Annotated[Seconds, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseModel):
    """All settings; each field is the environment variable of the same name in upper case."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    bus_url: str = Field(
        "memory://", description="Message bus: `memory://` (one process) or `amqp://user:password@host,host/vhost`"
    )
    bus_prefix: Annotated[str, Field(pattern=r"^[a-z0-9.-]{0,40}$")] = Field(
        "", description="Begins the names of all exchanges and queues, so that deployments can share a virtual host"
    )
    store_url: str = Field(
        "sqlite:///var/darkroom.db", description="Record store: `sqlite:///path` or `mongodb://host/database`"
    )
    media_root: str = Field(
        "var/media", description="Folder of pictures and thumbnails; all services need access to it"
    )
    media_url: str = Field("/media/", description="URL prefix under which the pictures are served; ends with a slash")
    api_host: str = Field("127.0.0.1", description="Address the api listens on")
    api_port: Port = Field(8000, description="Port of the api; 0 selects a free port")
    inference_host: str = Field("127.0.0.1", description="Address the reference inference server listens on")
    inference_port: Port = Field(8001, description="Port of the reference inference server; 0 selects a free port")
    health_host: str = Field("127.0.0.1", description="Address on which generator and janitor serve health and metrics")
    health_port: Port = Field(
        0, description="Port on which generator and janitor serve health and metrics; 0 disables it"
    )
    inference_service_url: str | None = Field(
        None, description="Base URL of the inference service; if unset, `darkroom up` starts the reference server"
    )
    inference_service_api_key: str | None = Field(
        None,
        description="Bearer token for the inference service; the reference server requires it if it is set",
        repr=False,
    )
    inference_timeout: Positive = Field(120, description="Longest wait for one answer of the inference service")
    inference_concurrency: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="Number of pictures that the reference server paints at the same time"
    )
    painter_step_delay: Annotated[Seconds, Field(ge=0)] = Field(
        0, description="Pause of the reference server after each step, to make progress visible"
    )
    max_image_file_size: Annotated[int, Field(ge=1024)] = Field(
        10_485_760, description="Largest accepted size of a picture file, in bytes"
    )
    max_image_pixels: Annotated[int, Field(ge=4096)] = Field(
        16_777_216, description="Largest picture that is decoded, in pixels (width × height)"
    )
    thumbnail_size: Annotated[int, Field(ge=16, le=2048)] = Field(
        256, description="Longest side of a thumbnail, in pixels"
    )
    thumbnail_format: Literal["png", "jpeg", "webp"] | None = Field(
        None, description="Format of thumbnails: `png`, `jpeg` or `webp`; if unset, the format of the picture"
    )
    previews: bool = Field(
        True, description="Show previews while an image is painted, if the inference service sends them"
    )
    generator_concurrency: Annotated[int, Field(ge=1, le=64)] = Field(
        2, description="Number of images that one generator works on at the same time"
    )
    generation_deadline: Positive = Field(900, description="Time after its request at which an unfinished image fails")
    lease: Positive = Field(
        30, description="How long a generator that does not answer keeps its image; renewed after every third of it"
    )
    retry_delays: Annotated[tuple[Positive, ...], Field(min_length=1), BeforeValidator(_durations)] = Field(
        (5, 30, 120), description="Delays before the second, third … attempt after a transient error"
    )
    circuit_failures: Annotated[int, Field(ge=1)] = Field(
        5, description="Number of consecutive transient errors after which a generator stops taking work"
    )
    circuit_pause: Positive = Field(5, description="Pause until a stopped generator tries one image again")
    reconcile_interval: Positive = Field(15, description="Interval of the search for work that a fault left behind")
    reconcile_grace: Positive = Field(10, description="Age at which an unsent command or event is sent again")
    purge_interval: Positive = Field(3600, description="Interval of the purge of old images")
    sweep_interval: Positive = Field(86400, description="Interval of the comparison of files and records")
    sweep_grace: Positive = Field(86400, description="A file without a record is kept until it is this old")
    retention_days: Annotated[float, Field(gt=0)] = Field(
        30, description="Days after which an image is purged unless it is pinned"
    )
    tombstone_age: Positive = Field(
        86400, description="How long a deleted id is remembered; a request by bus that is older is rejected"
    )
    purge_batch: Annotated[int, Field(ge=1, le=10000)] = Field(500, description="Number of images purged in one batch")
    grace_period: Positive = Field(130, description="How long the current work may take to finish after SIGTERM")
    requests_per_hour: Annotated[int, Field(ge=0)] = Field(
        50, description="Requests of one owner in any hour; 0 means no limit"
    )
    concurrent_requests: Annotated[int, Field(ge=0, le=100)] = Field(
        2, description="Unfinished images of one owner; 0 means no limit"
    )
    publisher_requests_per_hour: Annotated[int, Field(ge=0)] = Field(
        0, description="Requests by bus for one owner in any hour; 0 means no limit"
    )
    poll_interval: Positive = Field(2, description="Longest interval at which a waiting request reads its record")
    places_interval: Positive = Field(
        1, description="Interval at which queue positions are read while a websocket waits for one"
    )
    body_timeout: Positive = Field(10, description="Longest time for receiving the body of a request")
    max_body_size: Annotated[int, Field(ge=1024)] = Field(65536, description="Largest body of a request, in bytes")
    websocket_buffer: Annotated[int, Field(ge=8)] = Field(
        256, description="Number of frames buffered for a websocket that does not read; beyond that it is closed"
    )
    websockets_per_owner: Annotated[int, Field(ge=1)] = Field(
        10, description="Largest number of open websockets of one owner"
    )
    websocket_heartbeat: Positive = Field(20, description="Interval of the pings on a websocket")
    event_log_age: Positive = Field(3600, description="Age up to which a client can resume from the event log")
    event_log_bytes: Annotated[int, Field(ge=1_000_000)] = Field(
        500_000_000, description="Largest size of the event log, in bytes"
    )
    event_log_segment: Annotated[int, Field(ge=10_000)] = Field(
        20_000_000, description="Size of a segment of the event log, in bytes; the log is trimmed by whole segments"
    )
    event_backlog: Annotated[int, Field(ge=100)] = Field(
        10_000, description="Number of events that an api replica keeps in memory for clients that resume"
    )
    event_lookback: Positive = Field(
        600, description="How far back a starting api replica reads the event log to recognise duplicates"
    )
    heartbeat: Annotated[int, Field(ge=1, le=60)] = Field(
        10, description="AMQP heartbeat in seconds; a dead connection is detected after three"
    )
    bus_timeout: Positive = Field(5, description="Longest wait for a confirm of the broker")
    store_timeout: Positive = Field(5, description="Longest wait for an answer of the store")
    allow_anonymous: bool = Field(False, description="Allow the api to listen beyond loopback without authentication")
    jwt_secret: Secret | None = Field(
        None, description="Accept bearer tokens signed with this secret (HS256); at least 32 characters", repr=False
    )
    jwt_jwks_url: Annotated[str, Field(pattern=r"^https?://")] | None = Field(
        None, description="Accept bearer tokens signed with a key of this JWK set (RS256, ES256)"
    )
    jwt_issuer: str | None = Field(
        None, description="Required `iss` of a token; needed with `JWT_SECRET` or `JWT_JWKS_URL`"
    )
    jwt_audience: str | None = Field(
        None, description="Required `aud` of a token; needed with `JWT_SECRET` or `JWT_JWKS_URL`"
    )
    jwt_leeway: Annotated[Seconds, Field(ge=0, le=300)] = Field(
        30, description="Tolerated difference to the clock of the issuer"
    )
    api_keys: bool = Field(
        False,
        description="Require API keys made by `darkroom keys`; with tokens configured, keys are accepted anyway",
    )
    media_signing_keys: Annotated[tuple[Secret, ...], BeforeValidator(_comma_separated)] = Field(
        (), description="Secrets that sign the URLs of pictures, newest first; needed with authentication", repr=False
    )
    media_url_age: Positive = Field(
        21_600, description="A signed URL stays the same this long, and is valid for as long again"
    )
    cors_origins: Annotated[tuple[Origin, ...], BeforeValidator(_comma_separated)] = Field(
        (), description="Origins of other sites whose pages may use the api: `https://app.example.org,…`"
    )
    idle_timeout: Positive = Field(
        75, description="A connection that sends no complete request head within this time is closed"
    )
    darkroom_token: str | None = Field(None, description="Bearer token that `darkroom generate` sends", repr=False)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level that is logged: `DEBUG`, `INFO`, `WARNING` or `ERROR`"
    )
    log_format: Literal["text", "json"] = Field("text", description="Form of the log lines: `text` or `json`")

    @property
    def has_identity(self) -> bool:
        return self.api_keys or self.jwt_secret is not None or self.jwt_jwks_url is not None

    @property
    def media_prefix(self) -> str:
        return self.media_url if self.media_url.endswith("/") else self.media_url + "/"


def read_settings(environ: Mapping[str, str], env_file: Path | None = None) -> Settings:
    """Settings from a mapping of environment variables; a missing variable is read from `env_file`.

    An empty variable counts as not set. Variables of other programs are ignored.

    Raises:
        Misconfigured: names each variable whose value is not valid, and says what it must be.
    """
    from_file = dotenv_values(env_file) if env_file is not None and env_file.is_file() else {}
    values = {
        name: value
        for name in Settings.model_fields
        if (value := environ.get(name.upper()) or from_file.get(name.upper()))
    }
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        wrong = [_reason(found) for found in error.errors(include_url=False)]
        raise Misconfigured("; ".join(wrong), code="bad_setting") from error


def _reason(found: ErrorDetails) -> str:
    return f"{str(found['loc'][0]).upper()}: {found['msg'].removeprefix('Value error, ')}"


def process_settings() -> Settings:
    """`read_settings` from the environment of this process and `.env` in its working directory."""
    return read_settings(os.environ, Path(".env"))


def settings_table() -> str:
    """All settings as a Markdown table, for the documentation."""
    rows = ["| setting | default | what it does |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, tuple):
            default = ",".join(f"{part:g}" for part in default)
        shown = "" if default in {None, ""} else f"`{default}`"
        rows.append(f"| `{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows) + "\n"
