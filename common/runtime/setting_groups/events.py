"""Settings of the event log; the waits for bus and store."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from common.runtime.setting_groups.group import SettingGroup
from common.runtime.setting_types import Age, Count, Timeout


class EventSettings(SettingGroup):
    """Fields of `Settings`; `Settings` says what holds for all."""

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
