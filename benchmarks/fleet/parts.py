"""The parts of the benchmark of the fleet: each starts its own processes and adds its rows to the tables."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fleet.fleets import FleetSize, Observed, SlotFleet, fleet, slot_stub
from benchmarks.fleet.orders import OWNERS
from benchmarks.fleet.slots import SteadyWindow, painted_twice, repainted
from benchmarks.measurements import Table, percentile, report_progress
from common.bus.connect import open_bus
from common.domain.images import new_image_id
from common.domain.requests import GenerationRequest
from common.messages import GenerateImage
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from tests.servers.rabbitmq import RabbitMQ

UNDER, OVER = 0.8, 1.2
MORE = 10  # generators that are started later
ORDERS_OF_ONE = 10_000
PUBLISHERS = 50  # confirms in flight
KILLED_S = 20.0  # the slots of the rest are observed for so long
RUNNING, SLOTS = ("slot use", "gap mean ms", "gap p99 ms"), ("pictures/s", "CPU of the machine")
STARTS = ("POST to started p50 ms", "POST to started p99 ms")
COSTS = ("generators CPU ms/picture", "apis CPU ms/picture", "broker CPU ms/picture", "MB a slot (PSS)")


class FleetTables:
    """All tables of the results."""

    def __init__(self) -> None:
        self.use = Table("Fleet: use of the slots", (*RUNNING, *STARTS, *SLOTS), head="slots, times, load")
        self.cost = Table("Fleet: cost", COSTS, head="slots, times, load")
        self.kill = Table(
            "Fleet: a third of the generators killed",
            ("slot use of the rest", "painted again p50 s", "painted again last s", "lost", "painted twice"),
            head="slots, times",
        )
        self.more = Table(f"Fleet: {MORE} generators more", ("all their slots busy after s",), head="slots, times")
        waits = ("p50 ms", "p99 ms", "p50 over without", "mean over without")
        self.others = Table("Fleet: POST to started of the others, 80 % load", waits, head="slots, beside")
        self.peers = Table(
            "Fleet: Celery and dramatiq with the bare job",
            (*RUNNING, "worker CPU ms/picture", "broker CPU ms/picture", "MB a slot (PSS)", *SLOTS),
            head="slots, times, contender",
        )

    @property
    def all(self) -> list[Table]:
        return [self.use, self.cost, self.kill, self.more, self.others, self.peers]


@dataclass(frozen=True, slots=True)
class Shared:
    """What all parts of a run share; `quick` divides the times of observation."""

    folder: Path
    broker: RabbitMQ
    tables: FleetTables
    quick: float

    def seconds(self, size: FleetSize, paintings: float) -> float:
        """Long enough for so many paintings on each slot, and for 30 s."""
        return max(30 / self.quick, paintings * size.mean_s)


def add_running(table: Table, row: str, observed: Observed, slots: int, *, has_gaps: bool) -> None:
    window, paintings = observed.window, observed.paintings
    table.add(row, **{"slot use": window.use(paintings, slots)})
    if has_gaps:
        gaps = window.gaps(paintings)
        mean_s = sum(gaps) / len(gaps)
        table.add(row, **{"gap mean ms": 1000 * mean_s, "gap p99 ms": 1000 * percentile(gaps, 0.99)})
    painted_s = window.ended(paintings) / window.seconds
    table.add(row, **{"pictures/s": painted_s, "CPU of the machine": observed.machine_cpu})


def note(shared: Shared, running: SlotFleet, observed: Observed, what: str, *, is_over: bool) -> None:
    """Add the rows of a load. With more work than slots, the wait until a start is the length of the queue."""
    row, painted = f"{running.size.name}, {what}", observed.window.ended(observed.paintings)
    add_running(shared.tables.use, row, observed, running.size.slots, has_gaps=is_over)
    if not is_over:
        waits = running.load.waits(observed.window)
        p50, p99 = (1000 * percentile(waits, share) for share in (0.5, 0.99))
        shared.tables.use.add(row, **dict(zip(STARTS, (p50, p99), strict=True)))
    costs = [1000 * observed.cpu[kind] / painted for kind in ("generator", "api", "broker")]
    memory_mb = running.memory_mb() / running.size.slots
    shared.tables.cost.add(row, **dict(zip(COSTS, (*costs, memory_mb), strict=True)))
    use = shared.tables.use.rows[row]["slot use"][-1]
    report_progress(f"{row}: slot use {use:.3f}, CPU {observed.machine_cpu:.0%} of the machine")


async def measure_random(shared: Shared, size: FleetSize, *, faults: bool) -> None:
    """Random times: 80 %, then 120 %; then generators are killed and others are started."""
    folder, bus_url = shared.folder / f"random-{size.slots}", shared.broker.fresh_vhost()
    async with slot_stub() as stub, fleet(size, folder, bus_url, stub) as running:
        await stub.plan(size.mean_s, is_equal=False, aged=int(UNDER * size.slots))
        await running.load.fill(int(UNDER * size.slots))
        running.load.set_rate(UNDER * size.per_s)
        await asyncio.sleep(2)
        under = await running.observe(shared.seconds(size, 0.5))
        note(shared, running, under, "random, 80 %", is_over=False)
        free = size.slots - int(UNDER * size.slots)
        await stub.plan(size.mean_s, is_equal=False, aged=free)
        running.load.set_rate(OVER * size.per_s)
        await running.load.fill(free + max(20, size.slots // 20))  # some wait from the beginning
        await stub.until_busy(int(0.99 * size.slots))
        await asyncio.sleep(2)
        over = await running.observe(shared.seconds(size, 0.75))
        note(shared, running, over, "random, 120 %", is_over=True)
        if faults:
            await measure_kill(shared, running)
            await measure_more(shared, running)


async def measure_equal(shared: Shared, size: FleetSize, *, under: bool) -> None:
    """All times equal, and all slots begin at the same moment."""
    folder, bus_url = shared.folder / f"equal-{size.slots}", shared.broker.fresh_vhost()
    async with slot_stub() as stub, fleet(size, folder, bus_url, stub) as running:
        if under:
            await begin_together(running, int(UNDER * size.slots))
            running.load.set_rate(UNDER * size.per_s)
            observed = await running.observe(shared.seconds(size, 1))
            note(shared, running, observed, "equal, 80 %", is_over=False)
            running.load.set_rate(0)
            await running.load.all_ended(2 * size.mean_s + 60)
        await begin_together(running, size.slots)
        running.load.set_rate(OVER * size.per_s)
        observed = await running.observe(shared.seconds(size, 1))
        note(shared, running, observed, "equal, 120 %", is_over=True)


async def begin_together(running: SlotFleet, slots: int) -> None:
    """So many slots paint, and will end at the same moment, soon; if that is all slots, as many orders wait."""
    size = running.size
    await running.stub.plan(size.mean_s, is_equal=True, together=slots)
    await running.load.fill(slots)
    await running.stub.until_busy(slots)
    if slots == size.slots:
        await running.load.fill(size.slots)
    await asyncio.sleep(0.8 * size.mean_s)


async def measure_kill(shared: Shared, running: SlotFleet) -> None:
    """Kill a third of the generators; from then on as much is ordered as the others can paint."""
    names = running.generators
    killed = names[: len(names) // 3]
    rest = (len(names) - len(killed)) * running.size.each
    killed_s = time.monotonic()
    for name in killed:
        running.cluster.services[name].signal(signal.SIGKILL)
    running.load.set_rate(rest / running.size.mean_s)
    for name in killed:
        await running.cluster.services[name].kill()
    await asyncio.sleep(KILLED_S)
    window = SteadyWindow(killed_s, time.monotonic())
    async with asyncio.timeout(300):
        while (found := repainted(await running.stub.paintings(), frozenset(killed), killed_s)).missing:
            await asyncio.sleep(1)
    others = [each for each in await running.stub.paintings() if each.group not in killed]
    shared.tables.kill.add(
        f"{running.size.name}, random",
        **{
            "slot use of the rest": window.use(others, rest),
            "painted again p50 s": percentile(found.after_s, 0.5),
            "painted again last s": found.after_s[-1],
        },
    )
    report_progress(f"{len(killed)} generators killed: {len(found.after_s)} images painted again")


async def measure_more(shared: Shared, running: SlotFleet) -> None:
    """Start more generators beside a long queue; then wait for the end of all orders, and count them."""
    running.load.set_rate(0)
    size = running.size
    await running.load.fill(5 * MORE * size.each)  # those that run paint some of them meanwhile
    began_s = time.monotonic()
    names = await running.add_generators(MORE)
    await running.stub.until_busy(MORE * size.each, groups=names)
    row = f"{size.name}, random"
    shared.tables.more.add(row, **{"all their slots busy after s": time.monotonic() - began_s})
    await running.load.all_ended(300)
    load = running.load
    lost = len(load.began.keys() - load.ended.keys()) + load.failed
    twice = painted_twice(await running.stub.paintings()) + load.ends - len(load.ended)
    shared.tables.kill.add(row, lost=lost, painted_twice=twice)


async def measure_others(shared: Shared, size: FleetSize) -> None:
    """The others' wait beside the orders of one owner, over their wait without them; each owner has its turns."""
    folder, bus_url = shared.folder / f"others-{size.slots}", shared.broker.fresh_vhost()
    turns = str(max(2, 25 * size.slots // (15 * OWNERS)))
    settings = {"CONCURRENT_REQUESTS": turns, "PUBLISHER_WAITING_REQUESTS": "0"}
    async with slot_stub() as stub, fleet(size, folder, bus_url, stub, **settings) as running:
        count = int(UNDER * size.slots)
        await stub.plan(size.mean_s, is_equal=False, aged=count)
        await running.load.fill(count)
        running.load.set_rate(UNDER * size.per_s)
        await asyncio.sleep(2)
        without = await running.observe(shared.seconds(size, 1))
        orders = int(ORDERS_OF_ONE / shared.quick)
        await publish(bus_url, orders)
        await until_on_record(folder / "darkroom.db", orders)
        await asyncio.sleep(2)
        beside = await running.observe(shared.seconds(size, 1))
        found = [running.load.waits(each.window) for each in (without, beside)]
        running.load.set_rate(0)
    first = f"{size.slots:,}, nothing"
    for row, waits in ((first, found[0]), (f"{size.slots:,}, {orders:,} orders of one owner", found[1])):
        p50, p99 = (1000 * percentile(waits, share) for share in (0.5, 0.99))
        means = [sum(each) / len(each) for each in (waits, found[0])]
        shared.tables.others.add(row, p50_ms=p50, p99_ms=p99, mean_over_without=means[0] / means[1])
        shared.tables.others.add(row, p50_over_without=p50 / shared.tables.others.rows[first]["p50 ms"][-1])


async def publish(bus_url: str, count: int) -> None:
    """Orders of one owner, by the bus."""
    request = GenerationRequest(prompt="a newsletter", width=64, height=64, steps=2)
    gate, clock = asyncio.Semaphore(PUBLISHERS), SystemClock()
    async with open_bus(read_settings({"BUS_URL": bus_url}), name="bench", clock=clock) as bus:

        async def send() -> None:
            async with gate:
                now = clock.now()
                command = GenerateImage(
                    id=new_image_id(now), source="newsletter", owner="newsletter", time=now, data=request
                )
                await bus.send(command)

        await asyncio.gather(*(send() for _ in range(count)))


async def until_on_record(file: Path, count: int, limit_s: float = 300) -> None:
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)
    try:
        async with asyncio.timeout(limit_s):
            query = "SELECT count(*) FROM images WHERE json_extract(document, '$.owner') = 'newsletter'"
            while connection.execute(query).fetchone()[0] < count:
                await asyncio.sleep(1)
    finally:
        connection.close()
