"""`make chaos-outage`: the broker is unavailable for 30 s under load, first stopped, then killed."""

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
        fault_cluster(folder, broker.fresh_vhost()) as cluster,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        result = await outage(cluster, http, broker, how=how, seconds=seconds)
    answers = ", ".join(f"{count} × {status}" for status, count in sorted(result.statuses.items()))
    print(f"{how + ', ' + format(seconds, 'g') + ' s':<14} answered {answers} ({result.during} while it was away)")
    print(f"{'':<14} slowest answer {result.slowest_answer_s:.1f} s")
    print(f"{'':<14} all final {result.recovered_after_s:.1f} s after it was back")
    print(f"{'':<14} violations: {len(result.findings.violations)}")
    for violation in result.findings.violations[:20]:
        print(f"  {violation}")
    return not result.findings.violations


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    chosen = parser.parse_args()
    broker = open_broker()
    try:
        with tempfile.TemporaryDirectory(prefix="darkroom-outage-") as folder:
            results = [asyncio.run(run(Path(folder) / how, broker, how, chosen.seconds)) for how in ("stop", "kill")]
    finally:
        broker.close()
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
