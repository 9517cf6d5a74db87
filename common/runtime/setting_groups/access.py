"""Settings of who may use the api, from which hosts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from common.runtime.addresses import PublicUrl
from common.runtime.setting_groups.group import SettingGroup
from common.runtime.setting_types import (
    Age,
    Aliases,
    HostNames,
    HttpUrl,
    Networks,
    Origins,
    Owners,
    Seconds,
    Secret,
    Secrets,
    Timeout,
)


class AccessSettings(SettingGroup):
    """Fields of `Settings`; `Settings` says what holds for all."""

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
