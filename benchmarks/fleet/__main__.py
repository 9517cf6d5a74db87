"""`make bench-fleet`: how busy a fleet of simulated GPU slots is.

    300, 1000, 4000   slots: their use at random and at equal times, with less work than they can do and with more
    faults            300 slots: a third of the generators is killed; ten more are started
    others            300 slots: the wait of 20 owners beside 10,000 orders of one
    peers             300 slots: Celery and dramatiq with the bare job

`PARTS="300 peers"` chooses some of them; the rows of the others stay in the results. `SIZE=30` has a fleet of that many
slots of 2 s take the place of the 300, with short observations.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import time

from benchmarks import servers
from benchmarks.fleet.fleets import FleetSize
from benchmarks.fleet.parts import FleetTables, Shared, measure_equal, measure_others, measure_random
from benchmarks.fleet.peers import PEERS, measure_peer
from benchmarks.measurements import RESULTS, Table, report_progress, save_results

SMALL = FleetSize(12, 25, 8)
MIDDLE = FleetSize(20, 50, 36)
LARGE = FleetSize(40, 100, 200)
PARTS = ("300", "1000", "4000", "faults", "others", "peers")


async def measure(shared: Shared, parts: list[str], small: FleetSize) -> None:
    if "300" in parts or "faults" in parts:
        await measure_random(shared, small, faults="faults" in parts)
    if "300" in parts:
        await measure_equal(shared, small, under=True)
    if "1000" in parts:
        await measure_random(shared, MIDDLE, faults=False)
        await measure_equal(shared, MIDDLE, under=True)
    if "4000" in parts:
        await measure_random(shared, LARGE, faults=False)
        await measure_equal(shared, LARGE, under=False)
    if "others" in parts:
        await measure_others(shared, small)
    if "peers" in parts:
        for name in PEERS:
            for is_equal in (False, True):
                await measure_peer(shared, name, small, is_equal=is_equal)


def with_earlier(tables: list[Table]) -> list[Table]:
    """The tables with the rows of earlier results that were not measured again."""
    file = RESULTS / "fleet.json"
    earlier = {each["title"]: each["rows"] for each in json.loads(file.read_text())["tables"]} if file.exists() else {}
    for table in tables:
        table.rows = dict(sorted({**earlier.get(table.title, {}), **table.rows}.items(), key=_slots_of))
    return tables


def _slots_of(row: tuple[str, object]) -> int:
    """The number that the name of a row begins with; the order within one number stays."""
    number = re.match(r"[\d,]*\d", row[0])
    return int(number[0].replace(",", "")) if number else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=" ".join(PARTS), help=f"some of: {' '.join(PARTS)}")
    parser.add_argument("--size", type=int, help="slots of 2 s, in place of 300 of 8 s; nothing is written")
    parser.add_argument("--rounds", type=int, default=1)
    chosen = parser.parse_args()
    parts = chosen.parts.split()
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no part {min(unknown)}; there are {' '.join(PARTS)}")
    small = FleetSize(max(3, chosen.size // 10), 10, 2) if chosen.size else SMALL
    began_s = time.monotonic()
    with servers.folder() as folder, servers.broker() as broker:
        shared = Shared(folder, broker, FleetTables(), quick=5 if chosen.size else 1)
        try:
            for number in range(chosen.rounds):
                asyncio.run(measure(Shared(folder / f"{number}", broker, shared.tables, shared.quick), parts, small))
        finally:  # what was measured by then
            if chosen.size:
                for table in shared.tables.all:
                    print(f"\n{table.title}\n\n{table.markdown()}")
            else:
                save_results("fleet", with_earlier(shared.tables.all), rounds=chosen.rounds)
    report_progress(f"{(time.monotonic() - began_s) / 60:.1f} min; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
