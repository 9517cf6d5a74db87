"""The quota of an hour, over HTTP: what was never recorded is given back, what was painted only within a bound."""

import asyncio
from datetime import timedelta

import pytest

from common.application import quota_store
from common.application.resources import Resources
from common.domain.errors import Unavailable, Unconfirmed
from common.runtime.reading_settings import read_settings
from services.generator.backends.configured import backends_at
from services.generator.worker import run_generator
from tests.borders.http.conftest import CLOCK, ORDERS
from tests.cluster import ORDER
from tests.inference_double import body, inference_double, paint, picture, status
from tests.unit.generator.test_generate import FAST

pytestmark = pytest.mark.border(rule="D3")
LIMIT = 3


class FailingInserts:
    """A store that fails before it inserts an image."""

    def __init__(self, store, error) -> None:
        self._store = store
        self.error = error

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def insert(self, image):
        if self.error:
            raise self.error
        await self._store.insert(image)


@pytest.mark.parametrize("error", [Unavailable("store"), Unconfirmed("store"), RuntimeError("not foreseen")], ids=repr)
async def test_what_was_never_recorded_is_given_back(serve, monkeypatch, error):
    monkeypatch.setattr(quota_store, "_INSERT_LIMIT", timedelta(0))
    stores = []

    def failing(store):
        stores.append(FailingInserts(store, error))
        return stores[0]

    async with serve(wrap=failing, REQUESTS_PER_HOUR=str(LIMIT)) as api:
        failed = [(await api.ask("POST", ORDERS, json=ORDER))[0] for _ in range(4 * LIMIT)]
        _, _, limits = await api.ask("GET", "/api/limits/")
        stores[0].error = None
        prefer = {"Prefer": "respond-async"}
        accepted = [(await api.ask("POST", ORDERS, json=ORDER, headers=prefer))[0] for _ in range(LIMIT + 1)]

    assert set(failed) <= {500, 503}
    assert limits["hourly"]["remaining"] == LIMIT
    assert accepted == [202] * LIMIT + [429]


@pytest.mark.parametrize(
    ("settings", "headers", "refused"),
    [
        ({"CONCURRENT_REQUESTS": "1"}, {}, (429, "concurrent_limit")),
        ({}, {"Idempotency-Key": "one"}, (422, "idempotency_mismatch")),
        ({}, {"Prefer": "wait=soon"}, (400, "invalid_header")),
    ],
    ids=["no free slot", "a used key", "a wrong header"],
)
async def test_a_refused_request_is_not_counted(serve, settings, headers, refused):
    async with serve(REQUESTS_PER_HOUR="5", **settings) as api:
        first = {"Prefer": "respond-async"} | {name: text for name, text in headers.items() if name != "Prefer"}
        assert (await api.ask("POST", ORDERS, json=ORDER, headers=first))[0] == 202
        for number in range(100, 108):
            given, _, problem = await api.ask("POST", ORDERS, json={**ORDER, "seed": number}, headers=headers)
            assert (given, problem["code"]) == refused
        _, _, limits = await api.ask("GET", "/api/limits/")

    assert limits["hourly"]["remaining"] == 4


PAINTED = {
    "noise": (body(b"noise"), 2 * LIMIT),
    "a large picture": (body(picture() + bytes(200_000)), 2 * LIMIT),
    "an error": (status(500), 2 * LIMIT),
    "a picture of another size": (body(picture(size=(72, 64))), 2 * LIMIT),
    "deleted at once": (body(b"noise"), 2 * LIMIT),
    "refused": (status(422), LIMIT),
    "painted": (paint, LIMIT),
    "painted and deleted": (paint, LIMIT),
}


@pytest.mark.long_unless("noise", "deleted at once")
@pytest.mark.parametrize("case", PAINTED)
async def test_what_was_painted_is_given_back_within_a_bound(serve, case):
    """25 requests of one owner: at most twice the limit reach the inference service."""
    answer, admitted = PAINTED[case]
    settings = read_settings({**FAST, "MAX_IMAGE_FILE_SIZE": "100000"})
    stopping = asyncio.Event()
    async with (
        serve(REQUESTS_PER_HOUR=str(LIMIT)) as api,
        inference_double() as inference,
        asyncio.TaskGroup() as group,
    ):
        inference.always(answer)
        resources = Resources(api.bus, api.store, api.media, CLOCK)
        group.create_task(
            run_generator(settings, resources, backends=backends_at([inference.url], settings), stopping=stopping)
        )
        statuses = []
        for _ in range(25):
            given, _, answered = await api.ask("POST", ORDERS, json=ORDER)
            statuses.append(given)
            image = answered.get("image", answered)
            if "deleted" in case and "id" in image:
                assert (await api.ask("DELETE", f"/api/images/{image['id']}/"))[0] == 204
        stopping.set()

    assert statuses.index(429) == admitted
    assert set(statuses[admitted:]) == {429}
    assert len(inference.orders) <= 3 * admitted
