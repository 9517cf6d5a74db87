"""Cost of one image as the store grows from 0 to 10^6 images, or the queue to 10,000, or the lines to 100,000.

The CPU of api, generators, janitor and broker is the main figure, because a busy machine does not change it; images a
second stand beside it. The images are JPEG, which is the cheapest to check, so the remaining cost shows best.
The filled stores are built once and kept in `.tools/bench`. What single operations cost is in `operations`.
"""

from __future__ import annotations

import asyncio
import shutil
from functools import partial

from benchmarks import operations, servers
from benchmarks.filled_files import BUSY_SLOTS, copy_filled
from benchmarks.load import load
from benchmarks.measurements import CpuUsage, Table, arguments, report_progress, save_results
from tests.cluster import Cluster, running

ON_RECORD = (0, 10_000, 100_000, 1_000_000)
QUEUED = 10_000
WARM_UP = 20
LINED_UP = 100_000
NOTHING = "0 on record"
# all owners of waiting images hold their slots, and an order of another owner has its turn too
with_lines = partial(servers.cluster, RETENTION_DAYS="36500", CONCURRENT_REQUESTS=str(BUSY_SLOTS), WAITING_REQUESTS="0")
NO_LINES = f"0 on record, {BUSY_SLOTS} slots"


async def measure(cluster: Cluster, table: Table, row: str, *, size: int, queued: int = 0) -> None:
    async with running(cluster), load(cluster.url) as ordering:
        await ordering.flood(WARM_UP)
        ordering.forget()
        if queued:
            # requested without waiting: the work on the first `size` images is timed while the others wait
            waiting = asyncio.create_task(ordering.flood(queued))
            while len(ordering.answered) < queued:
                await asyncio.sleep(0.05)
        pids = {alias: [service.pid] for alias, service in cluster.services.items()}
        watch = CpuUsage({**pids, "broker": servers.broker_pids()})
        if queued:
            ended = len(ordering.ended)
            while len(ordering.ended) < ended + size:
                await asyncio.sleep(0.01)
            took = watch.wall_s
            done = len(ordering.ended) - ended
            waiting.cancel()
        else:
            took, done = await ordering.flood(size), size
        spent = watch.spent()
        store = sum(spent.values()) - spent["broker"]
        table.add(
            row,
            **{
                "services' CPU ms/image": store / done * 1000,
                "generators' CPU ms/image": sum(spent[each] for each in spent if "generator" in each) / done * 1000,
                "broker's CPU ms/image": spent["broker"] / done * 1000,
                "images/s": done / took,
            },
        )


async def main(size: int, rounds: int, most: int = ON_RECORD[-1], lined_up: int = LINED_UP) -> None:
    columns = ("services' CPU ms/image", "generators' CPU ms/image", "broker's CPU ms/image", "images/s", "over 0")
    table = Table(f"Growth: {size} images each, JPEG", columns, head="beside")
    of_operations = operations.table(most, lined_up)
    with servers.folder() as folder, servers.broker() as broker:
        async with servers.stub(folder) as stub:
            await stub.show("JPEG")
            await operations.measure(folder, broker, stub.url, of_operations, full=most, waiting=lined_up)
            for number in range(rounds):
                for count in ON_RECORD:
                    if count <= most:
                        path = folder / f"growth-{count}-{number}"
                        cluster = servers.cluster(
                            path, bus_url=broker.fresh_vhost(), stub_url=stub.url, RETENTION_DAYS="36500"
                        )
                        if count:
                            copy_filled(count, path / "darkroom.db")
                        await measure(cluster, table, f"{count:,} on record", size=size)
                        shutil.rmtree(path)
                path = folder / f"growth-queued-{number}"
                cluster = servers.cluster(path, bus_url=broker.fresh_vhost(), stub_url=stub.url)
                await measure(cluster, table, f"{QUEUED:,} queued", size=size, queued=QUEUED)
                for row, count in (
                    (NO_LINES, 0),
                    (f"{most:,} on record, {lined_up:,} waiting, {BUSY_SLOTS} slots", most),
                ):
                    path = folder / f"growth-lines-{count}-{number}"
                    cluster = with_lines(path, bus_url=broker.fresh_vhost(), stub_url=stub.url)
                    if count:
                        copy_filled(count, path / "darkroom.db", waiting=lined_up, is_busy=True)
                    await measure(cluster, table, row, size=size)
                    shutil.rmtree(path)
                report_progress(f"round {number + 1}: growth")
    for row in list(table.rows):
        # no requests arrive while the queue is processed, so the generators' CPU is compared there
        column = "generators' CPU ms/image" if "queued" in row else "services' CPU ms/image"
        for ratio in table.ratios(row, NO_LINES if "slots" in row else NOTHING, column):
            table.add(row, **{"over 0": ratio})
    save_results("growth", [table, of_operations], size=size, rounds=rounds, queued=QUEUED, waiting=lined_up)


if __name__ == "__main__":
    chosen = arguments(__doc__ or "", size=200, rounds=3)
    asyncio.run(main(chosen.size, chosen.rounds))
