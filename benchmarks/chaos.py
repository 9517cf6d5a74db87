"""`make chaos JOBS=2000 SEED=1 MINUTES=3`: many requests to processes that are killed, stopped, disconnected.

Prints one table; exit status 1 if anything was lost, painted twice, shown twice or left behind. Trouble from outside is
part of it: a foreign publisher, odd answers of the inference service (`--no-outside` leaves it out). `--store` takes
another store's URL; the broker is one of its own (tests/servers/rabbitmq.py says which).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from tests.faults import chaos
from tests.servers.rabbitmq import open_broker


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="how long the orders come in (default: as fast as they are met)")
    parser.add_argument("--restarts", type=int, help="of the broker (default: one for 500 jobs)")
    parser.add_argument("--pause", type=float, default=1.5, help="seconds between two faults, about")
    parser.add_argument("--store", help="STORE_URL (default: SQLite in a folder that is removed)")
    parser.add_argument(
        "--outside",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="foreign messages, a listener's queue that refuses, odd answers, media that fail",
    )
    parser.add_argument("--keep", type=Path, help="folder for logs and journals, kept")
    chosen = parser.parse_args()
    for library in ("aio_pika", "aiormq"):  # the foreign publisher and the checker lose their connections as well
        logging.getLogger(library).setLevel(logging.CRITICAL)
    if chosen.keep:
        chosen.keep.mkdir(parents=True, exist_ok=True)
    restarts = chosen.jobs // 500 if chosen.restarts is None else chosen.restarts
    with tempfile.TemporaryDirectory(prefix="darkroom-chaos-") as folder:
        broker = open_broker()
        try:
            report = asyncio.run(
                chaos.run(
                    chosen.keep or Path(folder),
                    broker,
                    jobs=chosen.jobs,
                    seed=chosen.seed,
                    minutes=chosen.minutes,
                    restarts=restarts,
                    pause_s=chosen.pause,
                    store_url=chosen.store,
                    outside=chosen.outside,
                )
            )
        finally:
            broker.close()
    print(report)
    return 1 if report.findings.violations else 0


if __name__ == "__main__":
    sys.exit(main())
