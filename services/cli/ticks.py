"""A tick of a janitor's timer, published by hand."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import aclosing
from typing import Final, Literal

from common.bus.port import Bus, Since
from common.domain.images import new_image_id
from common.messages import JanitorPurged, JanitorSwept, Tick, TickData
from common.runtime.clock import SystemClock
from services.cli.console import CommandFailed
from services.cli.operator import SOURCE

REPORT_S: Final = 60.0  # one run of a purge takes seconds; a longer purge continues without the operator


async def publish_tick(bus: Bus, timer: Literal["timer.purge", "timer.sweep"], data: TickData) -> int:
    """Publish the tick, then print the janitor's report of that run; returns 1 if the janitor refused the run.

    Raises:
        CommandFailed: no report for a minute.
    """
    began = SystemClock().now()
    await bus.tick(Tick(id=new_image_id(began), source=SOURCE, type=timer, time=began, data=data))
    report_type = JanitorPurged if timer == "timer.purge" else JanitorSwept
    try:
        async with asyncio.timeout(REPORT_S), aclosing(bus.read(Since(began))) as entries:
            async for entry in entries:
                if isinstance(entry.event, report_type) and entry.event.time >= began:
                    report = json.loads(entry.event.data.model_dump_json(by_alias=True))
                    sys.stdout.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
                    return 1 if report.get("refused") else 0
    except TimeoutError:
        pass
    raise CommandFailed("the tick is published, but no janitor has reported yet")
