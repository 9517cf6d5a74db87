"""The entries of the store."""

import asyncio

from tests.contract.store.records import SECOND, an_entry
from tests.making import NOON


async def test_an_entry_is_kept_and_replaced_by_its_next_revision(store):
    first = an_entry()
    second = an_entry(revision=2, data={"text": "é🦊"}, expires_at=NOON)
    outcomes = [await store.put_entry(each) for each in (second, first, first, second, second)]

    assert outcomes == [False, True, False, True, False]
    assert await store.get_entry("quota", "local") == second
    assert await store.put_entry(an_entry(revision=3))
    assert await store.get_entry("quota", "local") == an_entry(revision=3)


async def test_entries_are_those_of_the_kind(store):
    assert await store.list_entries("key") == []
    kept = [an_entry(kind="key", key=key) for key in ("b:c", "a", "c")]
    for entry in [*kept, an_entry(kind="timer", key="a")]:
        await store.put_entry(entry)

    assert await store.list_entries("key") == [kept[1], kept[0], kept[2]]
    assert await store.get_entry("key", "none") is None
    assert await store.get_entry("timer", "a") == an_entry(kind="timer", key="a")


async def test_entries_after_a_key_are_a_page_of_the_kind(store):
    keys = ["a/1", "a/2", "a0", "b.c/1", "é", "🦊"]  # in the order of their code points
    for key in reversed(keys):
        await store.put_entry(an_entry(kind="line", key=key))
    await store.put_entry(an_entry(kind="timer", key="a/15"))

    async def page(after, limit):
        return [entry.key for entry in await store.entries_after("line", after, limit=limit)]

    assert await page("", 3) == keys[:3]
    assert await page("a/1", 2) == ["a/2", "a0"]
    assert await page("a0", 9) == ["b.c/1", "é", "🦊"]
    assert await page("🦊", 9) == []
    assert await store.entries_after("line", "a", limit=1) == [an_entry(kind="line", key="a/1")]


async def test_of_racing_writers_of_an_entry_exactly_one_wins(store, other):
    for revision in (1, 2, 3):
        rivals = [an_entry(revision=revision, data={"rival": count}) for count in range(50)]
        outcomes = await asyncio.gather(*((store, other)[n % 2].put_entry(rival) for n, rival in enumerate(rivals)))

        assert outcomes.count(True) == 1
        assert await store.get_entry("quota", "local") == rivals[outcomes.index(True)]


async def test_of_racing_callers_exactly_one_discards_an_entry(store, other):
    await store.put_entry(an_entry())

    outcomes = await asyncio.gather(*((store, other)[n % 2].remove_entry("quota", "local") for n in range(20)))

    assert outcomes.count(True) == 1
    assert await store.get_entry("quota", "local") is None
    assert await store.put_entry(an_entry())


async def test_expire_drops_what_has_expired(store):
    moments = {"past": NOON - SECOND, "now": NOON, "soon": NOON + SECOND, "never": None}
    for key, moment in moments.items():
        await store.put_entry(an_entry(key=key, expires_at=moment))

    assert await store.remove_expired_entries(NOON) == 2

    assert {entry.key for entry in await store.list_entries("quota")} == {"soon", "never"}


async def test_check_answers(store):
    await store.check()
