"""Settings of a process: its token, its end, logs and traces."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.runtime.setting_groups.group import SettingGroup
from common.runtime.setting_types import HttpUrl, Timeout


class ProcessSettings(SettingGroup):
    """Fields of `Settings`; `Settings` says what holds for all."""

    darkroom_token: str | None = Field(None, description="Bearer token that the `darkroom` command sends", repr=False)
    grace_period: Timeout = Field(130, description="How long the current work may take to finish after SIGTERM")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level that is logged: `DEBUG`, `INFO`, `WARNING` or `ERROR`"
    )
    log_format: Literal["text", "json"] = Field("text", description="Form of the log lines: `text` or `json`")
    otel_exporter_otlp_endpoint: HttpUrl | None = Field(
        None, description="Send traces to this OpenTelemetry collector; needs the extra `otel` (docs/telemetry.md)"
    )
    trace_prompts: bool = Field(False, description="Record the prompts of images in traces")
