"""Settings of an object store for the media."""

from __future__ import annotations

from pydantic import Field

from common.runtime.setting_groups.group import SettingGroup
from common.runtime.setting_types import HttpUrl, Timeout


class ObjectStoreSettings(SettingGroup):
    """Fields of `Settings`; `Settings` says what holds for all. They count if `MEDIA_ROOT` is `s3://…`."""

    media_timeout: Timeout = Field(20, description="Longest wait for one answer of the object store")
    media_public_endpoint: HttpUrl | None = Field(
        None,
        description="URL of the object store as browsers reach it; the api then redirects to signed URLs there",
    )
    aws_endpoint_url: HttpUrl | None = Field(
        None, description="URL of an object store that is not Amazon's: `http://minio:9000`"
    )
    aws_region: str | None = Field(None, description="Region of the bucket; if unset, `us-east-1`")
    aws_access_key_id: str | None = Field(
        None, description="Key of the object store; if unset, the role of the machine, as AWS documents it"
    )
    aws_secret_access_key: str | None = Field(None, description="Secret of that key", repr=False)
    aws_session_token: str | None = Field(None, description="Token of a temporary key", repr=False)
    aws_ca_bundle: str | None = Field(
        None, description="PEM file with the certificates that sign the one of the object store, if it is no public one"
    )
