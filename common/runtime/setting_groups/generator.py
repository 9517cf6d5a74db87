"""Settings of the generators: pools, leases, retries and circuits."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from common.domain.pools import PoolName
from common.runtime.setting_groups.group import SettingGroup
from common.runtime.setting_types import Age, AnnounceInterval, Count, Intervals, Timeout, Workers


class GeneratorSettings(SettingGroup):
    """Fields of `Settings`; `Settings` says what holds for all."""

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
