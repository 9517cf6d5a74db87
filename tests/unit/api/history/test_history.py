"""The history over HTTP: filters, cursors, totals, refusals."""

from datetime import timedelta
from types import SimpleNamespace

import aiohttp
import pytest

from common.application.resources import Resources
from common.bus.memory import MemoryBus
from common.domain.images import Status
from common.media.connect import open_media
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from common.store.sqlite import SqliteStore
from services.api.history import routes
from services.api.service import api_running
from tests.making import NOON, an_image

DAY = timedelta(days=1)


@pytest.fixture
async def api(tmp_path):
    """An api and its store; `find` asks for the history and returns the status and the answer."""
    async with (
        MemoryBus() as bus,
        SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store,
        open_media(str(tmp_path / "media")) as media,
        api_running(read_settings({"API_PORT": "0"}), Resources(bus, store, media, SystemClock())) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
    ):

        async def find(**query):
            async with http.get("/api/images/history/", params=query) as response:
                return response.status, await response.json()

        yield SimpleNamespace(find=find, store=store)


async def fill(store, number=5, **fields):
    """Completed images, a day apart, the newest last."""
    images = [
        an_image(status=Status.COMPLETED, created_at=NOON + n * DAY, **{"prompt": f"fox {n} café", **fields})
        for n in range(number)
    ]
    for image in images:
        await store.insert(image)
    return [image.id for image in images]


def ids(answer):
    return [image["id"] for image in answer["images"]]


async def test_each_filter_of_the_history(api):
    """Words, model, time, pin and order; each alone and some together."""
    foxes = await fill(api.store)
    (other,) = await fill(api.store, 1, prompt="a sea", model="flux", pinned=True)
    newest_first = foxes[::-1]

    assert ids((await api.find(q="FOX CAFE"))[1]) == newest_first
    assert ids((await api.find(q="sea"))[1]) == [other]
    assert ids((await api.find(q="nothing"))[1]) == []
    assert ids((await api.find(model="flux"))[1]) == ids((await api.find(pinned="true"))[1]) == [other]
    assert ids((await api.find(pinned="false", sort="oldest"))[1]) == foxes
    assert ids((await api.find(since="2025-01-17T12:00:00Z", until="2025-01-18T13:00:00+01:00"))[1]) == [foxes[2]]
    assert ids((await api.find(q="fox", until="2025-01-17T11:59:59.9999Z", sort="oldest"))[1]) == foxes[:2]
    assert ids((await api.find(q="fox", status="failed"))[1]) == []
    assert ids((await api.find(since="2025-01-18T12:00:00Z", until="2025-01-17T12:00:00Z"))[1]) == []
    assert (await api.find(q="fox"))[1]["total"] == 5
    assert (await api.find(model="sdxl"))[1]["total"] == 5


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_a_cursor_continues_a_search(api, order):
    expected = await fill(api.store)
    seen, query = [], {"q": "fox", "perPage": 2, "sort": order}

    while True:
        _, answer = await api.find(**query)
        seen += ids(answer)
        if answer["nextCursor"] is None:
            break
        query["cursor"] = answer["nextCursor"]

    assert seen == (expected if order == "oldest" else expected[::-1])


async def test_a_cursor_of_other_filters_is_refused(api):
    """The cursor of a search is used with the same words in another form, then with other filters."""
    await fill(api.store)
    cursor = (await api.find(q="fox caf", perPage=2))[1]["nextCursor"]

    assert (await api.find(q=" CAF, fox", perPage=1, cursor=cursor))[0] == 200
    for other in (
        {},
        {"q": "fox"},
        {"q": "fox cafe"},
        {"q": "fox caf", "sort": "oldest"},
        {"q": "fox caf", "status": "all"},
    ):
        status, problem = await api.find(cursor=cursor, **other)
        assert (status, problem["code"]) == (409, "cursor_mismatch")


async def test_a_cursor_of_an_older_release_continues(api):
    expected = await fill(api.store)
    cursor = (await api.find(perPage=2))[1]["nextCursor"].rpartition(".")[0]

    assert ids((await api.find(cursor=cursor))[1]) == expected[2::-1]
    assert (await api.find(cursor=cursor, q="fox"))[1]["code"] == "cursor_mismatch"


async def test_the_total_of_a_search_is_capped(api, monkeypatch):
    await fill(api.store)
    monkeypatch.setattr(routes, "MAX_TOTAL", 4)

    _, many = await api.find(q="fox", perPage=1)
    _, few = await api.find(q="fox", perPage=1, until="2025-01-19T00:00:00Z")
    _, without = await api.find(perPage=1)

    totals = [(answer["total"], answer["totalIsCapped"]) for answer in (many, few, without)]
    assert totals == [(4, True), (4, False), (5, False)]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"q": "x" * 201}, "q"),
        ({"model": ""}, "model"),
        ({"model": "x" * 101}, "model"),
        ({"since": "2025-01-15"}, "since"),
        ({"since": "1736942400"}, "since"),
        ({"until": "2025-01-15T12:00:00"}, "until"),
        ({"until": "2025-02-30T12:00:00Z"}, "until"),
        ({"pinned": "maybe"}, "pinned"),
        ({"sort": "random"}, "sort"),
        ({"cursor": "1736942400000"}, "cursor"),
    ],
)
async def test_a_bad_value_is_named(api, query, field):
    status, problem = await api.find(**query)

    assert (status, problem["code"], list(problem["fields"])) == (400, "invalid_request", [field])


async def test_times_beyond_the_possible_are_accepted(api):
    expected = await fill(api.store, 2)

    _, answer = await api.find(since="0001-01-01T00:00:00+14:00", until="9999-12-31T23:59:59-14:00", sort="oldest")

    assert ids(answer) == expected
