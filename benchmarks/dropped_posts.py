"""`make chaos-dropped`: what 12,000 requests of one owner, each dropped at once, cost the other owners.

    one process:       POST, disconnect; POST, disconnect …      all with one Idempotency-Key, or each with its own
    this process:      GET the history, as other owners           before, during and after

No generator runs, so every request waits for its image until its client has gone. Exit status 1 if another owner's
history takes more than twice as long after the requests as before them, or the api keeps their memory. A request costs
the api about 0.7 ms of CPU: on a busy machine, a lower `--per-second` tells what they leave from what they cost.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from benchmarks.measurements import memory_mib, percentile
from tests.cluster import ORDER, Cluster, running
from tests.security import callers
from tests.servers.rabbitmq import open_broker

REQUESTS = 12_000
WARMING = 2_000
OTHERS = 4  # owners who read their histories, each with an image on record
MEASURED_S = 10.0
EVERY_S = 0.05
LONGEST_S = 300.0  # of one answer, on an overloaded machine
REST_S = 60.0
LARGER = 1.1  # a heap that was used once is not returned to the last page
OPEN_AT_ONCE = 200


async def measure(folder: Path, bus_url: str, *, count: int, per_s: float, one_key: bool) -> bool:
    settings = {**callers.settings_of(), "GENERATION_DEADLINE": "3600", "POLL_INTERVAL": "2"}
    cluster = Cluster(folder, BUS_URL=bus_url, **settings)
    api = cluster.add("api")
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=LONGEST_S)
    async with running(cluster), aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        reader = Histories(http, cluster.url)
        await reader.prepare()
        # some first: what a process allocates once is no memory of the requests
        async with dropping(cluster.url, count=WARMING, per_s=per_s, one_key=one_key) as sender:
            await reader.delays_until(sender)
        await asyncio.sleep(MEASURED_S / 2)
        quiet = await reader.delays(MEASURED_S)
        before = memory_mib([api.pid], what="VmRSS")
        began = time.monotonic()
        async with dropping(cluster.url, count=count, per_s=per_s, one_key=one_key) as sender:
            during = await reader.delays_until(sender)
        took_s = time.monotonic() - began
        at_once = await reader.delays(MEASURED_S)
        after = memory_mib([api.pid], what="VmRSS")
        began = time.monotonic()
        sent = OTHERS + WARMING + count
        while (ended := await ended_requests(http, cluster.url)) < sent and time.monotonic() - began < REST_S:
            await asyncio.sleep(0.5)
        await asyncio.sleep(max(0.0, REST_S - MEASURED_S - (time.monotonic() - began)))
        rested = memory_mib([api.pid], what="VmRSS")
        later = await reader.delays(MEASURED_S)
    keys = "one key" if one_key else "a key each"
    print(f"{count} requests of one owner, {keys}, each dropped at once, in {took_s:.0f} s ({count / took_s:.0f}/s)")
    for name, found in (("before", quiet), ("during", during), ("right after", at_once), ("a minute later", later)):
        p50, p99 = statistics.median(found), percentile(found, 0.99)
        ratio = p50 / statistics.median(quiet)
        print(f"  history of others, {name:<15} p50 {p50:5.1f} ms ({ratio:.2f} ×)  p99 {p99:5.1f} ms")
    print(f"  requests that have not ended    {sent - ended}")
    print(
        f"  memory of the api, MiB          {before:.0f} before, {after:.0f} right after, {rested:.0f} a minute later"
    )
    slowest = max(statistics.median(at_once), statistics.median(later)) / statistics.median(quiet)
    return ended == sent and slowest <= 2 and rested <= before * LARGER


class Histories:
    """Other owners, who read their histories in turn."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self._owners = itertools.cycle([_headers(f"owner-{number}") for number in range(OTHERS)])

    async def prepare(self) -> None:
        """An image on record for each."""
        await asyncio.gather(*(self._request() for _ in range(OTHERS)))

    async def _request(self) -> None:
        headers = {**next(self._owners), "Prefer": "respond-async"}
        async with self._http.post(f"{self._url}/v1/images/generations", json=ORDER, headers=headers) as response:
            response.raise_for_status()

    async def delays(self, seconds: float) -> list[float]:
        """Milliseconds of each request."""
        return await self._delays_during(asyncio.create_task(asyncio.sleep(seconds)))

    async def delays_until(self, process: asyncio.subprocess.Process) -> list[float]:
        """As `delays`, until the process has ended."""
        return await self._delays_during(asyncio.create_task(process.wait()))

    async def _delays_during(self, task: asyncio.Task[object]) -> list[float]:
        # at fixed times, whether or not the one before was answered: else a slow answer would hide the next ones
        asked = []
        while not task.done():
            asked.append(asyncio.create_task(self._ask()))
            await asyncio.sleep(EVERY_S)
        return await asyncio.gather(*asked)

    async def _ask(self) -> float:
        began = time.perf_counter()
        async with self._http.get(f"{self._url}/api/images/history/", headers=next(self._owners)) as response:
            response.raise_for_status()
            await response.read()
        return (time.perf_counter() - began) * 1000


async def ended_requests(http: aiohttp.ClientSession, url: str) -> int:
    """How many requests for images the api has ended: with 499 for a client that has gone, or refused before that."""
    async with http.get(f"{url}/metrics") as response:
        lines = (await response.text()).splitlines()
    wanted = ('route="/v1/images/generations"', "_count{")
    return sum(int(float(line.split()[-1])) for line in lines if all(part in line for part in wanted))


@asynccontextmanager
async def dropping(url: str, *, count: int, per_s: float, one_key: bool) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process that sends the requests: in this one it would delay what is measured."""
    arguments = ["--drop", url, "--count", str(count), "--per-second", str(per_s), *([] if one_key else ["--distinct"])]
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.dropped_posts", *arguments)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def drop(url: str, *, count: int, per_s: float, one_key: bool) -> None:
    """Send the requests, and close each connection once its request is in the kernel."""
    host, _, port = url.removeprefix("http://").partition(":")
    body = json.dumps(ORDER).encode()
    lines = [f"{name}: {value}" for name, value in _headers("the one").items()]
    head = [f"POST /v1/images/generations HTTP/1.1\r\nHost: {host}", "Content-Type: application/json", *lines]
    places = asyncio.Semaphore(OPEN_AT_ONCE)

    async def send(number: int) -> None:
        key = "Idempotency-Key: dropped" + ("" if one_key else f"-{number}")
        async with places:
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write("\r\n".join([*head, key, f"Content-Length: {len(body)}\r\n\r\n"]).encode() + body)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(send(number))
            await asyncio.sleep(max(0.0, began + number / per_s - time.monotonic()))


def _headers(owner: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {callers.token(owner, exp=int(time.time()) + 3600)}"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=REQUESTS)
    parser.add_argument("--per-second", type=float, default=200)
    parser.add_argument("--distinct", action="store_true", help="a key for each request, and so an image")
    parser.add_argument("--drop", metavar="URL", help="only send the requests, to this api")
    chosen = parser.parse_args()
    options = {"count": chosen.count, "per_s": chosen.per_second, "one_key": not chosen.distinct}
    if chosen.drop:
        asyncio.run(drop(chosen.drop, **options))
        return 0
    broker = open_broker()
    try:
        with tempfile.TemporaryDirectory(prefix="darkroom-dropped-") as folder:
            good = asyncio.run(measure(Path(folder), broker.fresh_vhost(), **options))
    finally:
        broker.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
