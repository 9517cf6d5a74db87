"""A tick of a janitor's timer that an operator sends, with the report of that run."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import timedelta
from typing import Final, Literal, TypeAlias

from common.bus.port import Bus, Since
from common.domain.errors import Invalid
from common.domain.images import new_image_id
from common.messages import JanitorPurged, JanitorSwept, PurgeReport, SweepReport, Tick, TickData
from common.runtime.clock import Clock

SOURCE: Final = "operator"
REPORT_S: Final = 60.0  # one run of a purge takes seconds; a longer purge continues without the operator
OperatorTimer: TypeAlias = Literal["timer.purge", "timer.sweep"]


def with_age(data: TickData, retention: timedelta | None) -> TickData:
    """The options of a purge with the age that they mean: a janitor reports a purge of nothing only if it is named.

    Raises:
        Invalid: no age is given, and images are kept for ever.
    """
    if data.older_than is not None:
        return data
    if retention is None:
        raise Invalid("images are kept for ever (RETENTION_DAYS): give an age", code="no_retention")
    return data.model_copy(update={"older_than": retention.total_seconds()})


async def run_timer(
    bus: Bus, clock: Clock, timer: OperatorTimer, data: TickData, *, wait_s: float = REPORT_S
) -> PurgeReport | SweepReport | None:
    """Publish the tick, then wait for the janitor's report of that run; None if there is none in time."""
    began = clock.now()
    await bus.tick(Tick(id=new_image_id(began), source=SOURCE, type=timer, time=began, data=data))
    report_type = JanitorPurged if timer == "timer.purge" else JanitorSwept
    try:
        async with asyncio.timeout(wait_s), aclosing(bus.read(Since(began))) as entries:
            async for entry in entries:
                if isinstance(entry.event, report_type) and entry.event.time >= began:
                    return entry.event.data
    except TimeoutError:
        pass
    return None
