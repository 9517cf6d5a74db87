"""The websocket under faults: resumed from anywhere, never read, and past the end of the log."""

import asyncio
import json

import aiohttp
import pytest

from tests.cluster import FrontEnd
from tests.faults.follower import following
from tests.faults.stream import Silent, Speaker, reconnecting

MANY_SOCKETS = {"WEBSOCKETS_PER_OWNER": "100"}


@pytest.mark.timeout(120)
async def test_some_hundred_reconnects_over_killed_replicas_show_every_end_once(stage, http):
    for alias in ("api-1", "api-2"):
        await stage.add_service("api", alias=alias, **MANY_SOCKETS)
    await stage.start()

    heard = await reconnecting(stage, http, reconnects=400, followers=8, seed=1, kill_every_s=2)

    assert heard.is_well, heard
    assert heard.kills > 0


async def test_row_65_a_client_that_never_reads_is_closed_and_disturbs_nobody(stage, http):
    await stage.add_service("api", WEBSOCKET_BUFFER="32")
    await stage.start()
    url = stage.urls["api"]
    silent = Silent(url)
    try:
        async with stage.bus() as bus, following(http, [url]) as follower:
            speaker = Speaker(bus, prompt="a lighthouse " * 300)
            async with asyncio.timeout(50):
                while "a websocket does not read" not in stage.services["api"].log:
                    await asyncio.gather(*(speaker.life() for _ in range(50)))
                for image_id in speaker.spoken:
                    await follower.until_final(image_id).wait()

            assert set(follower.told.events.values()) == {1}
            assert follower.reconnects == 0
            assert (await FrontEnd(http, url).get("/readyz"))[0] == 200
    finally:
        silent.close()


async def test_a_cursor_older_than_the_log_is_answered_with_a_gap_and_the_images_in_flight(stage, http):
    trimmed = {"EVENT_LOG_BYTES": "1000000", "EVENT_LOG_SEGMENT": "100000", "EVENT_BACKLOG": "100"}
    stage.settings.update(trimmed)
    await stage.add_service("api")
    await stage.start()
    page = FrontEnd(http, stage.urls["api"])
    async with stage.bus() as bus:
        speaker = Speaker(bus, prompt="a lighthouse " * 300)
        async with page.socket() as events:
            cursor = events.hello["cursor"]
        async with asyncio.timeout(40):
            while True:
                await asyncio.gather(*(speaker.life() for _ in range(100)))
                async with http.ws_connect(f"{page.url}/ws", params={"after": cursor}) as socket:
                    first = json.loads((await socket.receive(10)).data)
                    if first["type"] == "gap":
                        break

        assert set(first) == {"type", "cursor", "images", "more"}
        async with page.socket(after=first["cursor"]) as events:
            last = await speaker.life()
            assert (await events.until_final(last))[-1]["type"] == "image.completed"


async def test_shutdown_says_1001_to_every_websocket(stage, http):
    await stage.add_service("api")
    await stage.start()
    async with http.ws_connect(f"{stage.urls['api']}/ws") as one, http.ws_connect(f"{stage.urls['api']}/ws") as other:
        await asyncio.gather(one.receive(), other.receive())

        status = await stage.services["api"].stop()

        closed = [await socket.receive() for socket in (one, other)]
        assert [(message.type, message.data) for message in closed] == [(aiohttp.WSMsgType.CLOSE, 1001)] * 2
        assert status == 0
