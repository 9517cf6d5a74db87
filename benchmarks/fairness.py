"""`make bench-fairness`: how long five owners wait beside one with 2,000 orders and one at its limit.

Prints the waits from POST to `started`, and the bound: (owners with work × slots) paintings divided by the slots of the
generators. `--before REVISION` puts the same load on the code of that revision, too.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from benchmarks import servers
from common.bus.connect import open_bus
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from tests.cluster import answers
from tests.faults.fairness import FairnessLoad, OthersWaits, play
from tests.inference_double import inference_double
from tests.security import callers
from tests.servers.process import free_ports

GENERATORS, CONCURRENCY = 2, 2
PAINT_S = 0.5


@asynccontextmanager
async def services(code: Path, folder: Path, env: dict[str, str]) -> AsyncIterator[str]:
    """An api, generators and a janitor of the code in that folder; yields the URL of the api."""
    (port,) = free_ports(1)
    env = {**os.environ, **env, "API_PORT": str(port)}
    names = ["api", *["generator"] * GENERATORS, "janitor"]
    started = []
    with (folder / "log").open("ab") as log:
        for name in names:
            command = [sys.executable, "-m", "services", name]
            started.append(
                await asyncio.create_subprocess_exec(
                    *command, cwd=code, env=env, stdout=log, stderr=log, start_new_session=True
                )
            )
    try:
        url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as http, asyncio.timeout(60):
            while not await answers(http, f"{url}/readyz"):
                await asyncio.sleep(0.2)
        yield url
    finally:
        for process in started:
            process.kill()
        await asyncio.gather(*(process.wait() for process in started))


async def measure(load: FairnessLoad, code: Path, bus_url: str) -> OthersWaits:
    with servers.folder() as folder:
        async with inference_double() as inference:
            inference.always(load.paint)
            env = {
                **callers.settings_of(),
                "BUS_URL": bus_url,
                "STORE_URL": f"sqlite:///{folder}/darkroom.db",
                "MEDIA_ROOT": str(folder / "media"),
                "INFERENCE_SERVICE_URL": inference.url,
                "GENERATOR_CONCURRENCY": str(CONCURRENCY),
                "REQUESTS_PER_HOUR": "0",
                "LOG_LEVEL": "WARNING",
            }
            async with (
                services(code, folder, env) as url,
                open_bus(read_settings(env), name="bench", clock=SystemClock()) as bus,
            ):
                return await play(load, bus=bus, url=url)


def code_of(revision: str, folder: Path) -> Path:
    """The files of a revision of this repository."""
    archive = subprocess.run(
        ["git", "archive", revision, "common", "services"], cwd=servers.ROOT, check=True, capture_output=True
    )
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def report(what: str, load: FairnessLoad, found: OthersWaits) -> bool:
    p50, p99 = found.percentile(0.5), found.percentile(0.99)
    is_fair = p99 <= load.bound_s and not found.unstarted
    print(
        f"{what:<8} {load.orders:>6} orders  {len(found.waits):>4} requests of others: p50 {p50:6.2f} s, "
        f"p99 {p99:6.2f} s, bound {load.bound_s:5.2f} s, not started {found.unstarted}; "
        f"{found.greedy} of the greedy owner accepted  {'fair' if is_fair else 'NOT FAIR'}",
        flush=True,
    )
    return is_fair


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2000, help="orders by the bus; a tenth of them is measured too")
    parser.add_argument("--seconds", type=float, default=60, help="how long the others order")
    parser.add_argument("--rounds", type=int, default=1, help="ignored, for the Makefile")
    parser.add_argument("--before", help="a revision without turns, for comparison")
    chosen = parser.parse_args()
    with servers.broker() as broker, tempfile.TemporaryDirectory(prefix="darkroom-before-") as folder:
        codes = {"now": servers.ROOT}
        if chosen.before:
            codes[chosen.before[:8]] = code_of(chosen.before, Path(folder))
        fair = []
        for what, code in codes.items():
            for orders in (chosen.size // 10, chosen.size):
                load = FairnessLoad(orders, chosen.seconds, GENERATORS * CONCURRENCY, PAINT_S)
                is_fair = report(what, load, asyncio.run(measure(load, code, broker.fresh_vhost())))
                fair.append(is_fair or what != "now")
    return 0 if all(fair) else 1


if __name__ == "__main__":
    sys.exit(main())
