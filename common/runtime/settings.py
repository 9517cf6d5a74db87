"""The settings of an operator, read once at the start (`common/runtime/reading_settings.py`).

To add one, add a field to `Settings`, then write the output of `darkroom settings` into docs/settings.md.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.domain.pools import PoolName
from common.runtime.addresses import PublicUrl, path_of
from common.runtime.setting_types import (
    Age,
    Aliases,
    AnnounceInterval,
    Count,
    Days,
    Host,
    HostNames,
    HttpUrl,
    InLine,
    Interval,
    Intervals,
    Networks,
    Origins,
    Owners,
    PerHour,
    Port,
    Prefix,
    Seconds,
    Secret,
    Secrets,
    Timeout,
    Urls,
    WebhookSecrets,
    Workers,
)


class Settings(BaseModel):
    """All settings; each field is the environment variable of the same name in upper case.

    A field with `repr=False` is a secret: it is never printed, and `<NAME>_FILE` may name a file that holds it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    bus_url: str = Field(
        "memory://",
        description="Message bus: `memory://` (one process) or `amqp://user:password@host,host/vhost`",
        repr=False,
    )
    bus_password: str | None = Field(
        None,
        description="Password of the user that `BUS_URL` names, in place of the one there; with any characters",
        repr=False,
    )
    bus_prefix: Prefix = Field(
        "", description="Begins the names of all exchanges and queues, so that deployments can share a virtual host"
    )
    store_url: str = Field(
        "sqlite:///var/darkroom.db",
        description="Record store: `sqlite:///path` or `mongodb://host/database`",
        repr=False,
    )
    media_root: str = Field("var/media", description="Folder of pictures and thumbnails; all services need access")
    media_url: str = Field("/media/", description="URL prefix under which the pictures are served; ends with a slash")
    api_host: Host = Field("127.0.0.1", description="Address the api listens on")
    api_port: Port = Field(8000, description="Port of the api; 0 selects a free port")
    inference_host: Host = Field("127.0.0.1", description="Address the reference inference server listens on")
    inference_port: Port = Field(8001, description="Port of the reference inference server; 0 selects a free port")
    health_host: Host = Field("127.0.0.1", description="Address where generator and janitor serve health and metrics")
    health_port: Port = Field(0, description="Port where generator and janitor serve health and metrics; 0 disables it")
    inference_service_url: Urls = Field(
        (),
        description="URL of the inference service, or several with spaces between them (docs/inference.md); if unset, "
        "`up` starts the reference server",
    )
    backends: str | None = Field(
        None,
        description="TOML file that describes the inference services of a generator, in place of "
        "`INFERENCE_SERVICE_URL` (docs/inference.md)",
    )
    inference_service_api_key: str | None = Field(
        None,
        description="Bearer token for the inference service; the reference server requires it if it is set",
        repr=False,
    )
    inference_timeout: Timeout = Field(120, description="Longest wait for one answer of the inference service")
    inference_concurrency: Workers = Field(
        1, description="Number of pictures that the reference server paints at the same time"
    )
    inference_engine: Literal["painter", "diffusers"] = Field(
        "painter",
        description="What the reference server paints with: `painter` (abstract pictures) or `diffusers` (`MODELS`)",
    )
    models: str | None = Field(
        None, description="Folder of the models of `INFERENCE_ENGINE=diffusers` (docs/diffusers.md), or one model"
    )
    models_loaded: Annotated[Count, Field(ge=1, le=100)] = Field(
        1, description="Number of models kept in memory; the least recently used makes room for another"
    )
    painter_step_delay: Annotated[Seconds, Field(ge=0, le=3600)] = Field(
        0, description="Pause of the reference server after each step, to make progress visible"
    )
    max_image_file_size: Annotated[Count, Field(ge=1024, le=1_073_741_824)] = Field(
        10_485_760, description="Largest accepted size of a picture file, in bytes"
    )
    max_image_pixels: Annotated[Count, Field(ge=4096, le=1_000_000_000)] = Field(
        16_777_216, description="Largest picture that is decoded, in pixels (width × height)"
    )
    thumbnail_size: Annotated[Count, Field(ge=16, le=2_048)] = Field(
        256, description="Longest side of a thumbnail, in pixels"
    )
    thumbnail_format: Literal["png", "jpeg", "webp"] | None = Field(
        None, description="Format of thumbnails: `png`, `jpeg` or `webp`; if unset, the format of the picture"
    )
    previews: bool = Field(True, description="Show previews while an image is painted, if the service sends them")
    embed_parameters: bool = Field(True, description="Write prompt and settings into pictures (docs/provenance.md)")
    c2pa_cert: str | None = Field(
        None,
        description="PEM file with the certificates that sign a C2PA manifest into pictures; needs the extra `c2pa`",
    )
    c2pa_key: str | None = Field(None, description="PEM file with the key of the first certificate in `C2PA_CERT`")
    generator_concurrency: Workers = Field(
        2, description="Number of images that one generator sends to each inference service at the same time"
    )
    generator_pool: PoolName = Field(
        "default", description="Pool of a generator, whose queue alone it consumes: lower-case letters, digits, hyphens"
    )
    announce_interval: AnnounceInterval = Field(
        15, description="Interval at which a generator announces its models; it is gone after four without a sign"
    )
    generation_deadline: Age = Field(900, description="Time after its dispatch at which an unfinished image fails")
    lease: Timeout = Field(
        30, description="How long a generator that does not answer keeps its image; renewed after every third of it"
    )
    retry_delays: Intervals = Field(
        (5, 30, 120), description="Delays before the second, third … attempt after a transient error"
    )
    circuit_failures: Annotated[Count, Field(ge=1, le=1_000)] = Field(
        5, description="Number of consecutive transient errors after which an inference service gets no work"
    )
    circuit_pause: Timeout = Field(5, description="Pause until a stopped generator tries one image again")
    reconcile_interval: Interval = Field(15, description="Interval of the search for work that a fault left behind")
    reconcile_grace: Age = Field(10, description="Age at which an unsent command or event is sent again")
    purge_interval: Interval = Field(3600, description="Interval of the purge of old images")
    sweep_interval: Interval = Field(86400, description="Interval of the comparison of files and records")
    sweep_grace: Age = Field(86400, description="A file without a record is kept until it is this old")
    sweep_limit: Annotated[Count, Field(ge=0, le=100)] = Field(
        5, description="A sweep changes nothing if more than this percentage of the files or records has no counterpart"
    )
    retention_days: Days = Field(30, description="Days after which an image is purged unless it is pinned, or `never`")
    tombstone_age: Age = Field(
        86400, description="How long a deleted id is remembered; a request by bus that is older is rejected"
    )
    purge_batch: Annotated[Count, Field(ge=1, le=10_000)] = Field(
        500, description="Number of images purged in one batch"
    )
    grace_period: Timeout = Field(130, description="How long the current work may take to finish after SIGTERM")
    requests_per_hour: PerHour = Field(50, description="Requests of one owner in any hour; 0 means no limit")
    concurrent_requests: Annotated[Count, Field(ge=0, le=100)] = Field(
        2, description="Images of one owner that are sent or painted at once; 0 means no limit"
    )
    waiting_requests: InLine = Field(20, description="Further images of an owner that may wait; 0: no limit; or `none`")
    publisher_waiting_requests: InLine = Field(0, description="The same for requests by bus")
    waiting_deadline: Age = Field(86400, description="Time after its request at which an image that still waits fails")
    publisher_requests_per_hour: PerHour = Field(0, description="Requests by bus for an owner in any hour; 0: no limit")
    poll_interval: Timeout = Field(2, description="Longest interval at which a waiting request reads its record")
    places_interval: Timeout = Field(1, description="Interval of reading queue positions while a websocket waits")
    body_timeout: Timeout = Field(10, description="Longest time for receiving the body of a request")
    max_body_size: Annotated[Count, Field(ge=1024, le=104_857_600)] = Field(
        131_072, description="Largest body of a request, in bytes; two full prompts, escaped, take 98,000"
    )
    requests_waiting: Annotated[Count, Field(ge=1, le=100_000)] = Field(
        500, description="Largest number of requests of one owner that wait for their image at the same time"
    )
    websocket_buffer: Annotated[Count, Field(ge=8, le=100_000)] = Field(
        256, description="Number of frames buffered for a websocket that does not read; beyond that it is closed"
    )
    websockets_per_owner: Annotated[Count, Field(ge=1, le=100_000)] = Field(
        10, description="Largest number of open websockets of one owner"
    )
    websocket_heartbeat: Timeout = Field(20, description="Interval of the pings on a websocket")
    event_log_age: Age = Field(3600, description="Age up to which a client can resume from the event log")
    event_log_bytes: Annotated[Count, Field(ge=1_000_000, le=1_000_000_000_000_000)] = Field(
        500_000_000, description="Largest size of the event log, in bytes"
    )
    event_log_segment: Annotated[Count, Field(ge=10_000, le=2_000_000_000)] = Field(
        20_000_000, description="Size of a segment of the event log, in bytes; the log is trimmed by whole segments"
    )
    event_backlog: Annotated[Count, Field(ge=100, le=10_000_000)] = Field(
        10_000, description="Number of events that an api replica keeps in memory for clients that resume"
    )
    event_lookback: Age = Field(
        600, description="How far back a starting api replica reads the event log to recognise duplicates"
    )
    heartbeat: Annotated[Count, Field(ge=1, le=60)] = Field(
        10, description="AMQP heartbeat in seconds; a dead connection is detected after three"
    )
    bus_timeout: Timeout = Field(5, description="Longest wait for a confirm of the broker")
    store_timeout: Timeout = Field(5, description="Longest wait for an answer of the store")
    allow_anonymous: bool = Field(False, description="Allow the api to listen beyond loopback without authentication")
    jwt_secret: Secret | None = Field(
        None, description="Accept bearer tokens signed with this secret (HS256); at least 32 characters", repr=False
    )
    jwt_jwks_url: HttpUrl | None = Field(
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
    media_signing_keys: Secrets = Field(
        (), description="Secrets that sign the URLs of pictures, newest first; needed with authentication", repr=False
    )
    media_url_age: Age = Field(21_600, description="A signed URL stays the same this long, and is valid as long again")
    share_links: bool = Field(False, description="Let owners share pictures by links; needs `MEDIA_SIGNING_KEYS`")
    operators: Owners = Field(
        (), description="Owners who may use `/status` and the routes below it; without authentication, this machine may"
    )
    cors_origins: Origins = Field(
        (), description="Origins of other sites whose pages may use the api: `https://app.example.org,…`"
    )
    allowed_hosts: HostNames = Field(
        (),
        description="Host names by which the servers may be reached: `draw.example.org,*.example.org`; if unset, any; "
        "without authentication on loopback, only names of this machine",
    )
    trusted_proxies: Networks = Field(
        (), description="Addresses or networks of the proxies whose `X-Forwarded-*` and `Forwarded` headers count"
    )
    public_url: PublicUrl | None = Field(
        None, description="URL of the api as browsers see it, if a proxy serves it below a path: `https://host/draw/`"
    )
    openai_model_aliases: Aliases = Field(
        (),
        description="Models under other names for clients of OpenAI's API: `dall-e-3=sdxl gpt-image-1=flux`; the other "
        "names that begin with `dall-e-`, `gpt-image-` or `chatgpt-image-` mean the default model",
    )
    idle_timeout: Timeout = Field(
        75, description="A connection that sends no complete request head within this time is closed"
    )
    webhook_secrets: WebhookSecrets = Field(
        (), description="Secrets that sign webhooks, newest first (docs/webhooks.md); unset: no webhooks", repr=False
    )
    webhook_allowed_hosts: HostNames = Field(
        (), description="Hosts whose webhooks may be plain http, and may have private addresses; names as above"
    )
    webhook_retries: Intervals = Field(
        (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400), description="Delays between tries of a webhook"
    )
    webhook_timeout: Annotated[Timeout, Field(le=300)] = Field(15, description="Longest time of one try of a webhook")
    webhook_concurrency: Annotated[Count, Field(ge=1, le=500)] = Field(
        64, description="Number of tries of webhooks at once in one process"
    )
    webhook_host_concurrency: Annotated[Count, Field(ge=1, le=500)] = Field(
        4, description="Number of these to one host"
    )
    darkroom_token: str | None = Field(None, description="Bearer token that the `darkroom` command sends", repr=False)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level that is logged: `DEBUG`, `INFO`, `WARNING` or `ERROR`"
    )
    log_format: Literal["text", "json"] = Field("text", description="Form of the log lines: `text` or `json`")
    otel_exporter_otlp_endpoint: HttpUrl | None = Field(
        None, description="Send traces to this OpenTelemetry collector; needs the extra `otel` (docs/telemetry.md)"
    )
    trace_prompts: bool = Field(False, description="Record the prompts of images in traces")

    @property
    def has_identity(self) -> bool:
        return self.api_keys or self.jwt_secret is not None or self.jwt_jwks_url is not None

    @property
    def retention(self) -> timedelta | None:
        """How long an image is kept; None means that it is never purged."""
        return None if self.retention_days is None else timedelta(days=self.retention_days)

    @property
    def base_path(self) -> str:
        """The path of PUBLIC_URL without a slash at its end."""
        return path_of(self.public_url)

    @property
    def media_prefix(self) -> str:
        prefix = self.media_url if self.media_url.endswith("/") else self.media_url + "/"
        is_below = prefix.startswith((f"{self.base_path}/", "//")) or not prefix.startswith("/")
        return prefix if is_below else self.base_path + prefix
