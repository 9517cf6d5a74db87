"""Settings of the inference services and of the reference server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from common.runtime.setting_groups.group import SettingGroup
from common.runtime.setting_types import Count, Seconds, Timeout, Urls, Workers


class InferenceSettings(SettingGroup):
    """Fields of `Settings`; `Settings` says what holds for all."""

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
