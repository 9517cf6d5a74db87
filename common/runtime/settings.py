"""Everything an operator may set, read once from the environment and `.env`, each checked at the start by its name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from dotenv import dotenv_values
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from common.domain.errors import Misconfigured

_UNITS_S: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: Any) -> Any:
    """`90`, `90s`, `15m`, `1h`, `7d` as seconds.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)\s*", value)
    if found is None:
        raise ValueError("is a number of seconds, or one with a unit: 90, 90s, 15m, 1h, 7d")
    return float(found[1]) * _UNITS_S[found[2]]


def _several_seconds(value: Any) -> Any:
    return tuple(seconds(part) for part in value.split(",")) if isinstance(value, str) else value


def _several(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Seconds = Annotated[float, BeforeValidator(seconds)]
Secret = Annotated[str, Field(min_length=32)]  # HMAC-SHA256 wants a key as long as its hash (RFC 7518, section 3.2)
Origin = Annotated[str, Field(pattern=r"^https?://[a-z0-9.-]+(:[0-9]{1,5})?$|^https?://\[[0-9a-f:]+\](:[0-9]{1,5})?$")]
Positive = Annotated[Seconds, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseModel):
    """One frozen set of settings; each field is the environment variable of the same name in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    bus_url: str = Field("memory://", description="`memory://` (one process) or `amqp://user:password@host,host/vhost`")
    bus_prefix: Annotated[str, Field(pattern=r"^[a-z0-9.-]{0,40}$")] = Field(
        "", description="Begins the names of all exchanges and queues, so that deployments can share a virtual host"
    )
    store_url: str = Field("sqlite:///var/darkroom.db", description="`sqlite:///path` or `mongodb://host/database`")
    media_root: str = Field("var/media", description="Folder of pictures and thumbnails; all services must see it")
    media_url: str = Field("/media/", description="Where the pictures are served; ends in a slash")
    api_host: str = Field("127.0.0.1", description="Address the api listens on")
    api_port: Port = Field(8000, description="Port of the api; 0 takes a free one")
    inference_host: str = Field("127.0.0.1", description="Address the reference inference server listens on")
    inference_port: Port = Field(8001, description="Port of the reference inference server; 0 takes a free one")
    health_host: str = Field("127.0.0.1", description="Address of generator's and janitor's health and metrics")
    health_port: Port = Field(0, description="Port of generator's and janitor's health and metrics; 0 is off")
    inference_service_url: str | None = Field(
        None, description="Base URL of the inference service; unset, `up` uses its own reference server"
    )
    inference_service_api_key: str | None = Field(
        None,
        description="Sent as a bearer token; the reference server asks for it where it is set",
        repr=False,
    )
    inference_timeout: Positive = Field(120, description="Longest wait for one answer of the inference service")
    inference_concurrency: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="Pictures that the reference server paints at once"
    )
    painter_step_delay: Annotated[Seconds, Field(ge=0)] = Field(
        0, description="Pause of the reference server after each step, to watch progress"
    )
    max_image_file_size: Annotated[int, Field(ge=1024)] = Field(
        10_485_760, description="Bytes of a picture that are accepted at most"
    )
    max_image_pixels: Annotated[int, Field(ge=4096)] = Field(
        16_777_216, description="Pixels (width × height) of a picture that are decoded at most"
    )
    thumbnail_size: Annotated[int, Field(ge=16, le=2048)] = Field(
        256, description="A thumbnail fits within a square of this many pixels"
    )
    thumbnail_format: Annotated[str, Field(pattern="^(png|jpeg|webp)$")] | None = Field(
        None, description="`png`, `jpeg` or `webp`; unset, a thumbnail has the format of its picture"
    )
    previews: bool = Field(
        True, description="Shows what an image looks like while it is painted, where the inference service tells it"
    )
    generator_concurrency: Annotated[int, Field(ge=1, le=64)] = Field(
        2, description="Images that one generator works on at once"
    )
    generation_deadline: Positive = Field(900, description="An image not painted this long after the request fails")
    lease: Positive = Field(30, description="How long a silent generator keeps its image; renewed every third of it")
    retry_delays: Annotated[tuple[Positive, ...], Field(min_length=1), BeforeValidator(_several_seconds)] = Field(
        (5, 30, 120), description="Waits before the second, third … try after a transient error"
    )
    circuit_failures: Annotated[int, Field(ge=1)] = Field(
        5, description="Transient errors in a row after which a generator stops taking work"
    )
    circuit_pause: Positive = Field(5, description="Pause before a generator tries one image again")
    reconcile_interval: Positive = Field(15, description="Between two looks for work that a fault left behind")
    reconcile_grace: Positive = Field(
        10, description="How old unsent work or an unsent event is before it is sent again"
    )
    purge_interval: Positive = Field(3600, description="Between two purges of old images")
    sweep_interval: Positive = Field(86400, description="Between two comparisons of files and records")
    sweep_grace: Positive = Field(86400, description="A file without a record is left alone until it is this old")
    retention_days: Annotated[float, Field(gt=0)] = Field(
        30, description="Days after which an image that is not pinned is purged"
    )
    tombstone_age: Positive = Field(
        86400, description="How long a deleted id is remembered, and how late an order may come"
    )
    purge_batch: Annotated[int, Field(ge=1, le=10000)] = Field(500, description="Images purged in one batch")
    grace_period: Positive = Field(130, description="What is in hand at SIGTERM may take this long to finish")
    requests_per_hour: Annotated[int, Field(ge=0)] = Field(
        50, description="Orders of one owner in any hour; 0 is no limit"
    )
    concurrent_requests: Annotated[int, Field(ge=0, le=100)] = Field(
        2, description="Unfinished images of one owner; 0 is no limit"
    )
    publisher_requests_per_hour: Annotated[int, Field(ge=0)] = Field(
        0, description="Orders by bus for one owner in any hour; 0 is no limit"
    )
    poll_interval: Positive = Field(2, description="A waiting request reads its record at least this often")
    places_interval: Positive = Field(
        1, description="Between two looks at the queue while a websocket waits for a place in it"
    )
    body_timeout: Positive = Field(10, description="A request's body must arrive within this")
    max_body_size: Annotated[int, Field(ge=1024)] = Field(65536, description="Bytes of a request's body at most")
    websocket_buffer: Annotated[int, Field(ge=8)] = Field(
        256, description="Frames kept for a websocket that does not read; then it is closed"
    )
    websockets_per_owner: Annotated[int, Field(ge=1)] = Field(10, description="Open websockets of one owner")
    websocket_heartbeat: Positive = Field(20, description="Between two pings of a websocket")
    event_log_age: Positive = Field(3600, description="How far back a client can resume")
    event_log_bytes: Annotated[int, Field(ge=1_000_000)] = Field(
        500_000_000, description="Size of the event log at most"
    )
    event_log_segment: Annotated[int, Field(ge=10_000)] = Field(
        20_000_000, description="Bytes of a segment of the event log: it is trimmed by whole ones"
    )
    event_backlog: Annotated[int, Field(ge=100)] = Field(
        10_000, description="Events that an api replica keeps at hand for resuming clients"
    )
    event_lookback: Positive = Field(600, description="How far back a starting api replica reads to know repeats")
    heartbeat: Annotated[int, Field(ge=1, le=60)] = Field(
        10, description="AMQP heartbeat: a dead link is found in three"
    )
    bus_timeout: Positive = Field(5, description="Longest wait for the broker to confirm")
    store_timeout: Positive = Field(5, description="Longest wait for the store")
    allow_anonymous: bool = Field(False, description="Allows to listen beyond loopback without identity")
    jwt_secret: Secret | None = Field(
        None, description="Takes bearer tokens signed with it (HS256); 32 characters at least", repr=False
    )
    jwt_jwks_url: Annotated[str, Field(pattern=r"^https?://")] | None = Field(
        None, description="Takes bearer tokens signed with a key of this set (RS256, ES256)"
    )
    jwt_issuer: str | None = Field(None, description="`iss` that a token must have; needed with either of these")
    jwt_audience: str | None = Field(None, description="`aud` that a token must have; needed with either of these")
    jwt_leeway: Annotated[Seconds, Field(ge=0, le=300)] = Field(
        30, description="How far the clock of the issuer may be off"
    )
    api_keys: bool = Field(
        False, description="Sets up identity by the keys of `darkroom keys` alone; with tokens they are taken as well"
    )
    media_signing_keys: Annotated[tuple[Secret, ...], BeforeValidator(_several)] = Field(
        (), description="Secrets that sign the URLs of pictures, newest first; needed with identity", repr=False
    )
    media_url_age: Positive = Field(
        21_600, description="A signed URL stays the same this long, and holds as long again"
    )
    cors_origins: Annotated[tuple[Origin, ...], BeforeValidator(_several)] = Field(
        (), description="Pages of other hosts that may use the api: `https://app.example.org,…`"
    )
    idle_timeout: Positive = Field(
        75, description="A connection is closed when it has sent no whole request head within this"
    )
    darkroom_token: str | None = Field(None, description="Sent by `darkroom generate` as a bearer token", repr=False)
    log_level: Annotated[str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = Field(
        "INFO", description="`DEBUG`, `INFO`, `WARNING` or `ERROR`"
    )
    log_format: Annotated[str, Field(pattern="^(text|json)$")] = Field("text", description="`text` or `json`")

    @property
    def has_identity(self) -> bool:
        return self.api_keys or self.jwt_secret is not None or self.jwt_jwks_url is not None

    @property
    def media_prefix(self) -> str:
        return self.media_url if self.media_url.endswith("/") else self.media_url + "/"


def read_settings(environ: Mapping[str, str], env_file: Path | None = None) -> Settings:
    """Settings from a mapping of environment variables; what it lacks is looked up in `env_file`.

    A variable that is set but empty counts as not set. Variables of other programs are passed over.

    Raises:
        Misconfigured: names each variable that cannot be taken, and what it should be.
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
        wrong = [f"{str(found['loc'][0]).upper()}: {found['msg']}" for found in error.errors(include_url=False)]
        raise Misconfigured("; ".join(wrong), code="bad_setting") from error


def settings_of_this_process() -> Settings:
    """`read_settings` from this process's environment, and `.env` in the folder it runs in."""
    return read_settings(os.environ, Path(".env"))


def table() -> str:
    """All settings as a Markdown table, for the documentation."""
    rows = ["| setting | default | what it does |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, tuple):
            default = ",".join(f"{part:g}" for part in default)
        shown = "" if default in {None, ""} else f"`{default}`"
        rows.append(f"| `{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows) + "\n"
