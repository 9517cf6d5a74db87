"""How long deliveries take beside a receiver that hangs."""

import asyncio
import os
import time
from contextlib import contextmanager
from enum import StrEnum

from common.runtime.clock import SystemClock
from common.store.sqlite import SqliteStore
from services.webhooks.courier import POLL_S
from tests.unit.webhooks.support import delivering, hang, receiving, recorded, status
from tests.waiting import until

HOSTS = 20
PACE_S = 0.04  # 25 deliveries a second to these hosts together, and as many to the neighbour
TIMEOUT = "2s"  # of a try: less than by default, so that hanging tries also end and are made again


class Neighbour(StrEnum):
    """The receiver beside those that are measured, which answer at once."""

    NONE = "none"
    QUICK = "one that answers at once"
    HANGING = "one that hangs"


@contextmanager
def at_real_time_priority():
    """Where that is allowed: on a busy machine, other programs hold up more than one in a hundred deliveries."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (AttributeError, PermissionError):
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


async def latencies_ms(folder, count: int, neighbour: Neighbour) -> list[float]:
    """From before an event is put on record to its arrival, of `count` deliveries; the neighbour gets as many."""
    clock = SystemClock()
    began_s: dict[str, float] = {}
    arrived_s: dict[str, float] = {}
    answer = status(204)

    async def note(request):
        arrived_s.setdefault(request.headers["webhook-id"], time.perf_counter())
        return await answer(request)

    async with (
        SqliteStore.open(folder / "darkroom.db", timeout_s=30) as store,
        receiving(note) as quick,
        receiving(hang if neighbour is Neighbour.HANGING else answer) as other,
        delivering(store, clock, poll_s=POLL_S, WEBHOOK_TIMEOUT=TIMEOUT) as courier,
    ):
        next_s = time.perf_counter()
        for number in range(count):
            if neighbour is not Neighbour.NONE:
                await recorded(store, clock, other.url("other.test"))
                courier.wake()  # as the event does
            before_s = time.perf_counter()
            (delivery_id,) = await recorded(store, clock, quick.url(f"quick-{number % HOSTS}.test"))
            courier.wake()
            began_s[delivery_id] = before_s
            next_s += PACE_S
            await asyncio.sleep(next_s - time.perf_counter())
        await until(lambda: len(arrived_s) == count, limit_s=60)
    return [(moment - began_s[delivery_id]) * 1000 for delivery_id, moment in arrived_s.items()]
