import asyncio

import pytest
from pymongo.errors import DuplicateKeyError, OperationFailure

from common.domain.errors import Misconfigured, Unavailable
from common.domain.images import Status
from common.domain.search import HistoryFilter, terms_of
from common.store.mongo import MongoStore
from common.store.port import Entry
from services.janitor.search_index import index_old_images
from tests.making import NOON, an_image
from tests.proxy import proxy_before
from tests.servers.process import free_ports

LIMIT_S = 1.0  # far beyond what an answer takes, on a busy machine too


@pytest.fixture
async def proxied(database):
    """The store through a proxy, and the proxy."""
    async with proxy_before(database) as (proxy, url), MongoStore.open(url, timeout_s=LIMIT_S) as store:
        yield store, proxy


@pytest.fixture
async def direct(database):
    async with MongoStore.open(database, timeout_s=10) as store:
        yield store


def every_kind_of_call(store):
    image = an_image()
    return [
        store.insert(image),
        store.get(image.id),
        store.replace(image),
        store.replace_several([image] * 30),
        store.remove_several([image]),
        store.history("local", [Status.QUEUED], limit=5),
        store.count_history("local", [Status.QUEUED]),
        store.put_entry(Entry("quota", "a", 1, {})),
        store.list_entries("quota"),
        store.remove_expired_entries(NOON),
        store.check(),
    ]


async def test_where_nobody_listens_the_store_is_unavailable():
    with pytest.raises(Unavailable, match="store"):
        async with MongoStore.open(f"mongodb://127.0.0.1:{free_ports(1)[0]}/db", timeout_s=0.2):
            pass


@pytest.mark.parametrize("fault", ["refuse", "silence"])
async def test_a_server_that_has_gone_is_unavailable_until_it_is_back(proxied, fault):
    store, proxy = proxied
    getattr(proxy, fault)()

    async with asyncio.timeout(10 * LIMIT_S):
        outcomes = await asyncio.gather(*every_kind_of_call(store), return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {Unavailable}
    await proxy.listen()
    proxy.resume()
    proxy.cut()
    image = an_image()
    async with asyncio.timeout(30):
        while True:
            try:
                await store.insert(image)
                break
            except Unavailable:
                continue  # the driver's threads are still busy with what nobody waits for
    assert await store.get(image.id) == image


async def test_an_insert_whose_answer_was_lost_may_be_sent_again(proxied, direct):
    store, proxy = proxied
    image = an_image(slot="local:0", idempotency="local:k")
    proxy.delay_s = LIMIT_S * 0.7  # it arrives in time, and its answer does not

    with pytest.raises(Unavailable):
        await store.insert(image)
    proxy.delay_s = 0
    proxy.cut()
    await direct.insert(image)

    assert await direct.count_history("local", [Status.QUEUED]) == 1


class FailingCollection:
    """A collection whose every answer is the same error, or nothing."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def create_indexes(self, _indexes):
        raise self.error

    async def insert_one(self, _document):
        raise self.error

    async def find_one(self, _query):
        return None


@pytest.mark.parametrize(
    ("code", "expected"), [(18, Misconfigured), (13, Misconfigured), (85, Misconfigured), (189, Unavailable)]
)
async def test_a_refusal_at_the_start_is_misconfigured(code, expected):
    collection = FailingCollection(OperationFailure("no", code=code))
    store = MongoStore({"images": collection, "entries": collection}, timeout_s=1)  # type: ignore[arg-type]  # a fake

    with pytest.raises(expected):
        await store._create_indexes()


async def test_an_insert_gives_up_if_its_rival_is_never_found():
    collection = FailingCollection(DuplicateKeyError("no"))
    store = MongoStore({"images": collection, "entries": collection}, timeout_s=1)  # type: ignore[arg-type]  # a fake

    with pytest.raises(Unavailable, match="keeps changing its owner"):
        await store.insert(an_image(slot="local:0"))


async def test_what_an_older_release_has_stored_is_indexed(direct):
    """Documents without words, one of them deleted: the janitor's start indexes them; one is changed meanwhile."""
    images = [an_image(status=Status.COMPLETED) for _ in range(3)]
    await asyncio.gather(*map(direct.insert, [*images, an_image(deleted_at=NOON)]))
    await direct._images.update_many({}, {"$unset": {"words": True}})
    where = HistoryFilter(terms=terms_of("light"))
    await direct.replace(images[0].model_copy(update={"revision": 2}))

    before = await direct.count_history("local", list(Status), where=where)
    await index_old_images(direct)

    assert (before, await direct.count_history("local", list(Status), where=where)) == (1, 3)
    assert await direct._images.count_documents({"words": {"$exists": True}}) == 3
