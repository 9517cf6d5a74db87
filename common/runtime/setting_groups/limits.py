"""Settings of the limits on the images of one owner."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from common.runtime.setting_groups.group import SettingGroup
from common.runtime.setting_types import Age, Count, InLine, PerHour


class LimitSettings(SettingGroup):
    """Fields of `Settings`; `Settings` says what holds for all."""

    requests_per_hour: PerHour = Field(50, description="Requests of one owner in any hour; 0 means no limit")
    concurrent_requests: Annotated[Count, Field(ge=0, le=100)] = Field(
        2, description="Images of one owner that are sent or painted at once; 0 means no limit"
    )
    waiting_requests: InLine = Field(20, description="Further images of an owner that may wait; 0: no limit; or `none`")
    publisher_waiting_requests: InLine = Field(0, description="The same for requests by bus")
    waiting_deadline: Age = Field(86400, description="Time after its request at which an image that still waits fails")
    publisher_requests_per_hour: PerHour = Field(0, description="Requests by bus for an owner in any hour; 0: no limit")
