"""Settings of the janitor: reconcile, purge and sweep."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from common.runtime.setting_groups.group import SettingGroup
from common.runtime.setting_types import Age, Count, Days, Interval


class JanitorSettings(SettingGroup):
    """Fields of `Settings`; `Settings` says what holds for all."""

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
