"""Settings of the requests and websockets of the api."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from common.runtime.setting_groups.group import SettingGroup
from common.runtime.setting_types import Count, Timeout


class ServingSettings(SettingGroup):
    """Fields of `Settings`; `Settings` says what holds for all."""

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
