"""`make chaos-stream`: 10,000 random reconnects of websockets over killed replicas.

Also measures what one client that never reads costs the others. Prints two tables; exit status 1 if a terminal event
was missed or shown twice.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from common.messages import Event
from tests.faults.event_stream import EventSource, SilentClient, reconnecting
from tests.faults.fault_cluster import FaultCluster, fault_cluster
from tests.servers.rabbitmq import open_broker

READERS = 10
ROUNDS = 5
EVENTS_A_SECOND = 200
PROMPT = "a lighthouse at dusk, stormy sea, " * 60  # 2 kB, so that a socket that is not read fills soon


async def resume(folder: Path, bus_url: str, count: int, seed: int) -> bool:
    async with (
        fault_cluster(folder, bus_url) as cluster,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        for alias in ("api-1", "api-2"):
            await cluster.add_service("api", alias=alias, WEBSOCKETS_PER_OWNER="100")
        await cluster.start()
        began = time.monotonic()
        result = await reconnecting(cluster, http, reconnects=count, followers=20, seed=seed, kill_every_s=5)
        print(f"reconnects              {result.reconnects}, of 20 clients over 2 replicas (seed {seed})")
        print(f"replicas killed         {result.kills}")
        print(f"terminal events         {result.images} for each client")
        print(f"missed                  {result.missed}")
        print(f"shown twice             {result.shown_twice}")
        print(f"gaps                    {result.gaps}")
        print(f"took, s                 {time.monotonic() - began:.0f}")
        for example in result.examples[:10]:
            print(f"  {example}")
        return result.is_clean


async def silence(folder: Path, bus_url: str, seconds: float) -> None:
    """The delay from publish to receipt at readers, in turn without and with a client beside them that never reads."""
    p50s: dict[str, list[float]] = {"alone": [], "with one that never reads": []}
    p99s: dict[str, list[float]] = {name: [] for name in p50s}
    async with fault_cluster(folder, bus_url) as cluster, aiohttp.ClientSession() as http:
        await cluster.add_service("api", WEBSOCKETS_PER_OWNER="100")
        await cluster.start()
        for name in list(p50s) * ROUNDS:
            silent_client = SilentClient(cluster.urls["api"]) if "never" in name else None
            delays = await _delays(cluster, http, seconds)
            if silent_client:
                silent_client.close()
            p50s[name].append(statistics.median(delays))
            p99s[name].append(statistics.quantiles(delays, n=100)[98])
        closed = cluster.services["api"].log_file.read_text().count("its client does not read")
    for name, values in p50s.items():
        rounds = ", ".join(f"{p99:.1f}" for p99 in p99s[name])
        p50, p99 = statistics.median(values), statistics.median(p99s[name])
        print(f"{name:<27} p50 {p50:5.1f} ms  p99 {p99:5.1f} ms  (p99 of the rounds: {rounds})")
    print(f"closed, of {ROUNDS} that never read: {closed}")


async def _delays(cluster: FaultCluster, http: aiohttp.ClientSession, seconds: float) -> list[float]:
    delays: list[float] = []
    sent: dict[str, float] = {}

    async def read(socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            frame = message.json()
            if frame.get("id") in sent:
                delays.append((time.monotonic() - sent[frame["id"]]) * 1000)

    def note(event: Event) -> None:
        sent[event.id] = time.monotonic()

    async with cluster.bus() as bus:
        source = EventSource(bus, prompt=PROMPT, before_publish=note)
        sockets = [await http.ws_connect(f"{cluster.urls['api']}/ws") for _ in range(READERS)]
        readers = [asyncio.create_task(read(socket)) for socket in sockets]
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            began = time.monotonic()
            await source.publish_life()
            await asyncio.sleep(max(0, 4 / EVENTS_A_SECOND - (time.monotonic() - began)))
        await asyncio.sleep(1)
        for reader, socket in zip(readers, sockets, strict=True):
            reader.cancel()
            await socket.close()
    return delays


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reconnects", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=12, help="of each measurement of delays")
    chosen = parser.parse_args()
    broker = open_broker()
    try:
        with tempfile.TemporaryDirectory(prefix="darkroom-stream-") as folder:
            well = True
            if chosen.reconnects:
                place = Path(folder) / "reconnects"
                place.mkdir()
                well = asyncio.run(resume(place, broker.fresh_vhost(), chosen.reconnects, chosen.seed))
            place = Path(folder) / "silence"
            place.mkdir()
            asyncio.run(silence(place, broker.fresh_vhost(), chosen.seconds))
    finally:
        broker.close()
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
