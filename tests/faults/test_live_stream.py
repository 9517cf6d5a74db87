"""Websockets under faults: resumed on any replica, never read, with a cursor older than the log."""

import asyncio
import json

import aiohttp
import pytest

from tests.cluster import FrontEnd
from tests.faults.event_stream import EventSource, SilentClient, reconnecting
from tests.faults.follower import following

MANY_SOCKETS = {"WEBSOCKETS_PER_OWNER": "100"}


@pytest.mark.long
@pytest.mark.timeout(120)
async def test_clients_see_every_final_event_once_over_reconnects(cluster, http):
    for alias in ("api-1", "api-2"):
        await cluster.add_service("api", alias=alias, **MANY_SOCKETS)
    await cluster.start()

    result = await reconnecting(cluster, http, reconnects=400, followers=8, seed=1, kill_every_s=2)

    assert result.is_clean, result
    assert result.kills > 0


@pytest.mark.long
@pytest.mark.fault(row=65)
async def test_a_client_that_never_reads_is_closed_alone(cluster, http):
    await cluster.add_service("api")
    await cluster.start()
    url = cluster.urls["api"]
    silent_client = SilentClient(url)
    try:
        async with cluster.bus() as bus, following(http, [url]) as follower:
            source = EventSource(bus, prompt="a lighthouse " * 300)
            async with asyncio.timeout(50):
                while "its client does not read" not in cluster.services["api"].log:
                    await asyncio.gather(*(source.publish_life() for _ in range(50)))
                for image_id in source.published:
                    await follower.until_final(image_id).wait()

            assert set(follower.shown.events.values()) == {1}
            assert follower.reconnects == 0
            assert (await FrontEnd(http, url).get("/readyz"))[0] == 200
    finally:
        silent_client.close()


async def test_a_cursor_older_than_the_log_is_answered_with_a_gap(cluster, http):
    trimmed = {"EVENT_LOG_BYTES": "1000000", "EVENT_LOG_SEGMENT": "100000", "EVENT_BACKLOG": "100"}
    cluster.settings.update(trimmed)
    await cluster.add_service("api")
    await cluster.start()
    page = FrontEnd(http, cluster.urls["api"])
    async with cluster.bus() as bus:
        source = EventSource(bus, prompt="a lighthouse " * 300)
        async with page.socket() as events:
            cursor = events.hello["cursor"]
        async with asyncio.timeout(40):
            while True:
                await asyncio.gather(*(source.publish_life() for _ in range(100)))
                async with http.ws_connect(f"{page.url}/ws", params={"after": cursor}) as socket:
                    first = json.loads((await socket.receive(10)).data)
                    if first["type"] == "gap":
                        break

        assert set(first) == {"type", "cursor", "images", "more"}
        async with page.socket(after=first["cursor"]) as events:
            last = await source.publish_life()
            assert (await events.until_final(last))[-1]["type"] == "image.completed"


async def test_shutdown_closes_every_websocket_with_1001(cluster, http):
    await cluster.add_service("api")
    await cluster.start()
    async with (
        http.ws_connect(f"{cluster.urls['api']}/ws") as one,
        http.ws_connect(f"{cluster.urls['api']}/ws") as other,
    ):
        await asyncio.gather(one.receive(), other.receive())

        status = await cluster.services["api"].stop()

        closed = [await socket.receive() for socket in (one, other)]
        assert [(message.type, message.data) for message in closed] == [(aiohttp.WSMsgType.CLOSE, 1001)] * 2
        assert status == 0
