"""Cost of traces in the pipeline: the same orders with and without a collector, in turn.

Images a second, and the CPU of the generators and of the api for each image. The collector, a stand-in which discards
what it gets, is not counted; it shares the cores.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from benchmarks import servers
from benchmarks.load import load
from benchmarks.measurements import CpuUsage, Table, arguments, report_progress, save_results
from benchmarks.pipeline import WARM_UP
from tests.cluster import running

OFF, ON = "traces off", "traces on"


@asynccontextmanager
async def collector() -> AsyncIterator[str]:
    """The URL of a collector that accepts everything."""

    async def accept(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(content_type="application/x-protobuf")

    app = web.Application(client_max_size=100_000_000)
    app.router.add_post("/v1/traces", accept)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def main(size: int, rounds: int) -> None:
    columns = ("images/s", "generator CPU ms/image", "api CPU ms/image", "images/s over off", "generator CPU over off")
    table = Table(f"Traces, JPEG: {size} images", columns, head="case")
    with servers.folder() as folder, servers.broker() as broker:
        async with servers.stub(folder) as stub, collector() as endpoint:
            await stub.show("JPEG")
            for number in range(rounds):
                for name in (OFF, ON):
                    cluster = servers.cluster(
                        folder / f"{name}-{number}",
                        bus_url=broker.fresh_vhost(),
                        stub_url=stub.url,
                        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint if name is ON else "",
                    )
                    async with running(cluster), load(cluster.url) as ordering:
                        await ordering.flood(WARM_UP)
                        pids = {alias: service.pid for alias, service in cluster.services.items()}
                        generators = [pid for alias, pid in pids.items() if alias.startswith("generator")]
                        watch = CpuUsage({"generators": generators, "api": [pids["api"]]})
                        took = await ordering.flood(size)
                        spent = {part: seconds / size * 1000 for part, seconds in watch.spent().items()}
                    table.add(
                        name,
                        **{
                            "images/s": size / took,
                            "generator CPU ms/image": spent["generators"],
                            "api CPU ms/image": spent["api"],
                        },
                    )
                report_progress(f"round {number + 1}")
    for column, of in (("images/s over off", "images/s"), ("generator CPU over off", "generator CPU ms/image")):
        for ratio in table.ratios(ON, OFF, of):
            table.add(ON, **{column: ratio})
    save_results("tracing", [table], size=size, rounds=rounds)


if __name__ == "__main__":
    chosen = arguments(__doc__ or "", size=200, rounds=3)
    asyncio.run(main(chosen.size, chosen.rounds))
