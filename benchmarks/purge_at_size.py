"""`make chaos-purge`: 100,000 expired images are purged while the janitor is killed twice.

Prints what was left, the duration and the janitor's memory; exit status 1 if anything was left or lost.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.faults.fault_cluster import fault_cluster
from tests.faults.old_images import purge_with_kills
from tests.servers.rabbitmq import open_broker


async def run(count: int, kills: int, folder: Path, bus_url: str) -> int:
    async with fault_cluster(folder, bus_url) as cluster:
        result = await purge_with_kills(cluster, old=count, kills=kills, batch=500)
        print(f"images purged          {result.images} (and 40 kept: young or pinned)")
        print(f"janitors killed        {', '.join(cluster.faults) or 'none'}")
        print(f"files left or missing  {len(result.files_left)}")
        print(f"tombstones             {result.tombstones}")
        print(f"took, s                {result.took_s:.1f}")
        print(
            f"janitor's memory, MiB  {result.first_kib / 1024:.0f} at its start, {result.peak_kib / 1024:.0f} at most"
        )
        return 1 if result.files_left or result.tombstones != count else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=2)
    chosen = parser.parse_args()
    broker = open_broker()
    try:
        with tempfile.TemporaryDirectory(prefix="darkroom-purge-") as folder:
            return asyncio.run(run(chosen.images, chosen.kills, Path(folder), broker.fresh_vhost()))
    finally:
        broker.close()


if __name__ == "__main__":
    sys.exit(main())
