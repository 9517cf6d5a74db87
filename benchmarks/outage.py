"""The broker away for 30 s under load, stopped in order and then killed: what was answered, and that none was lost."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import aiohttp

from tests.faults.fault_cluster import fault_cluster
from tests.faults.outage import outage
from tests.servers.rabbitmq import RabbitMQ, open_broker


async def run(folder: Path, broker: RabbitMQ, how: str, seconds: float) -> bool:
    folder.mkdir()
    async with (
        fault_cluster(folder, broker.fresh_vhost()) as stage,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        away = await outage(stage, http, broker, how=how, seconds=seconds)
    answers = ", ".join(f"{count} × {status}" for status, count in sorted(away.statuses.items()))
    print(f"{how + ', ' + format(seconds, 'g') + ' s':<14} answered {answers} ({away.during} while it was away)")
    print(f"{'':<14} slowest answer {away.slowest_answer_s:.1f} s")
    print(f"{'':<14} all final {away.recovered_after_s:.1f} s after it was back")
    print(f"{'':<14} violations: {len(away.findings.violations)}")
    for violation in away.findings.violations[:20]:
        print(f"  {violation}")
    return not away.findings.violations


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    chosen = parser.parse_args()
    broker = open_broker()
    try:
        with tempfile.TemporaryDirectory(prefix="darkroom-outage-") as folder:
            well = [asyncio.run(run(Path(folder) / how, broker, how, chosen.seconds)) for how in ("stop", "kill")]
    finally:
        broker.close()
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
