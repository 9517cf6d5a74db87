"""Settings of webhooks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from common.runtime.setting_groups.group import SettingGroup
from common.runtime.setting_types import Count, HostNames, Intervals, Timeout, WebhookSecrets


class WebhookSettings(SettingGroup):
    """Fields of `Settings`; `Settings` says what holds for all."""

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
