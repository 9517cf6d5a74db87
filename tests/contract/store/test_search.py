"""The filters of the history: the same meaning in every store, compared with one in plain Python."""

import random
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.domain import transitions
from common.domain.images import FINAL, Batch, Status
from common.domain.search import HistoryFilter, HistoryPosition, terms_of
from common.store.documents import cut_page
from tests.contract.store.records import LEASE, MS, PICTURE, keep, next_of
from tests.making import NOON, an_image

PROMPTS = [
    "a lighthouse at dusk, stormy sea",
    "Lighthouses in the light of dawn",
    "Café über Straße, naïve ﬁne art",
    "夕焼けの灯台と海",
    "灯台守の猫",
    "등대 위의 고양이",
    "a fox 🦊 and a cat 🐈‍⬛",
    'the word OR, the word NOT, "quoted" and NEAR(this, 2) *star*',
    "sci-fi robot's 4k photo_real 50% off",
    "photorealistically rendered photorealism",
    "x",
    "",
    "a" * 60,
]
QUERIES = [
    *("li", "light", "lighthouse", "lighthouses", "dusk sea", "sea dusk a", "LIGHT Dawn", "zebra", "a", "s", "x"),
    *("cafe", "CAFÉ", "strasse", "STRASSE", "uber naive", "fine", "灯台", "灯", "海", "台", "夕焼けの灯台", "猫 灯"),
    *("등대", "등", "🦊", "fox 🦊", "🐈", "or", "OR fox", "not", "near", "NEAR(light, dusk)", '"quoted"', '"', "*"),
    *("li*", "star", "light OR zebra", "light -dusk", "tokens:light", "sci-fi", "robot's", "4k", "photo_real", "50%"),
    *("photorealistic", "photorealistically", "photorealisticallyx", "a" * 40, "a" * 41, "%", "_", "", "^light"),
]
OWNERS, MODELS = ["local", "anna"], ["sdxl", "flux dev"]
STATUSES = [[Status.COMPLETED], list(Status), [Status.QUEUED, Status.RUNNING], [Status.FAILED, Status.QUEUED], []]
TIMES = [None, NOON - 2 * MS, NOON, NOON + MS, NOON + timedelta(days=1)]


def library(seed: int = 1, number: int = 60):
    """Images of two owners within a few milliseconds, so that pages end in the middle of one."""
    rnd = random.Random(seed)
    for n in range(number):
        yield an_image(
            prompt=PROMPTS[n % len(PROMPTS)],
            owner=OWNERS[n % 7 == 0],
            model=rnd.choice(MODELS),
            status=rnd.choice([Status.COMPLETED, Status.COMPLETED, *Status]),
            created_at=NOON + rnd.randrange(4) * MS,
            pinned=rnd.random() < 0.3,
            deleted_at=NOON if rnd.random() < 0.1 else None,
            batch=rnd.choice([None, Batch(id="b", index=rnd.randrange(4), count=4)]),
        )


def expected(images, owner, statuses, where, **page):
    found = [image for image in images if where.selects(image, owner, statuses)]
    return cut_page(found, **{"limit": 1000, "offset": 0, "after": None, "oldest_first": False, **page})


@pytest.fixture
async def filled(store):
    images = list(library())
    await keep(store, *images)
    return images


async def test_a_search_means_the_same_in_every_store(store, filled):
    for query in QUERIES:
        where = HistoryFilter(terms=terms_of(query))
        found = await store.history("local", list(Status), limit=1000, where=where)

        assert found == expected(filled, "local", list(Status), where), query


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
async def test_every_combination_of_filters(store, filled, data):
    """Any filters, order and page, by offset or after an image that may not be in the result itself."""
    where = HistoryFilter(
        terms=terms_of(data.draw(st.sampled_from(["", "a", "li", "灯台", "fox", "the word"]))),
        model=data.draw(st.sampled_from([None, *MODELS, "none"])),
        since=data.draw(st.sampled_from(TIMES)),
        until=data.draw(st.sampled_from(TIMES)),
        pinned=data.draw(st.sampled_from([None, True, False])),
        batch_id=data.draw(st.sampled_from([None, None, None, "b", "none"])),
    )
    owner, statuses = data.draw(st.sampled_from(OWNERS)), data.draw(st.sampled_from(STATUSES))
    page = {
        "limit": data.draw(st.integers(1, 7)),
        "offset": data.draw(st.integers(0, 9)),
        "after": data.draw(st.none() | st.sampled_from(filled).map(HistoryPosition.of)),
        "oldest_first": data.draw(st.booleans()),
    }
    most = data.draw(st.none() | st.integers(1, 9))

    found = await store.history(owner, statuses, where=where, **page)
    count = await store.count_history(owner, statuses, where=where, limit=most)

    assert found == expected(filled, owner, statuses, where, **page)
    assert count == len(expected(filled, owner, statuses, where)[:most])


async def test_any_prompt_is_found_by_any_part_of_it(store):
    """Prompts of random letters of many scripts; each is found by its first words, cut off anywhere."""
    letters = "aàçéßİDŽﬁ½①々ー灯한가กำລຳ🦊❤️\u0131\u017f\u0661\uff21\u0301\u200d -_'\"*:%"
    rnd = random.Random(3)
    images = [an_image(prompt="".join(rnd.choices(letters, k=rnd.randrange(1, 12)))) for _ in range(25)]
    await keep(store, *images)

    for image in images:
        where = HistoryFilter(terms=terms_of(image.prompt[: rnd.randrange(1, 12)]))
        found = await store.history("local", list(Status), limit=1000, where=where)
        assert found == expected(images, "local", list(Status), where), image.prompt


async def test_a_search_follows_every_change(store):
    """An image from its request to its removal: it is found in its status, pinned or not, until it is deleted."""
    image = an_image()
    steps = [
        (store.insert, image),
        (store.replace, claimed := transitions.claim(image, lease=LEASE, now=NOON, deadline=timedelta(hours=1))),
        (store.replace, done := transitions.complete(claimed, lease=LEASE, attempt=1, picture=PICTURE, now=NOON)),
        (store.replace, pinned := transitions.pin(done, pinned=True)),
        (store.replace, unpinned := transitions.pin(pinned, pinned=False)),
        (store.replace, again := transitions.pin(unpinned, pinned=True)),
        (store.replace, deleted := transitions.delete(again, now=NOON)),
        (store.replace, transitions.tombstone(deleted, now=NOON)),
    ]
    filters = [
        (states, HistoryFilter(terms=terms_of("light"), pinned=pinned))
        for states in ([Status.QUEUED], [Status.RUNNING], [Status.COMPLETED], list(Status))
        for pinned in (None, True)
    ]

    seen = []
    for write, record in steps:
        await write(record)
        seen.append([await store.count_history("local", states, where=where) for states, where in filters])

    plain, is_pinned, gone = [0, 0, 0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 1, 1, 1, 1], [0] * 8
    assert seen[:2] == [[1, 0, 0, 0, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0, 1, 0]]
    assert seen[2:] == [plain, is_pinned, plain, is_pinned, gone, gone]


async def test_a_removed_image_is_not_found(store):
    kept, one, other = [an_image(status=Status.COMPLETED) for _ in range(3)]
    await keep(store, kept, one, other)

    await store.remove(one)
    await store.remove_several([other])

    where = HistoryFilter(terms=terms_of("lighthouse"))
    assert await store.history("local", list(FINAL), limit=10, where=where) == [kept]


async def test_many_changes_at_once_are_found(store):
    images = [an_image(prompt=f"number {n}") for n in range(30)]
    await keep(store, *images)
    failed = [next_of(image, status=Status.FAILED) for image in images]

    await store.replace_several(failed)

    where = HistoryFilter(terms=terms_of("num"))
    assert await store.count_history("local", [Status.FAILED], where=where) == 30
    assert await store.count_history("local", [Status.QUEUED], where=where) == 0
    assert await store.count_history("local", [Status.FAILED], where=where, limit=7) == 7


async def test_indexing_again_changes_nothing(store, filled):
    """A store may know that nothing is missing; a query of many words is answered all the same."""
    pages = [await store.index_for_search(after_id="", limit=25)]
    while (after := pages[-1].last_id) is not None:
        pages.append(await store.index_for_search(after_id=after, limit=25))

    words = HistoryFilter(terms=terms_of("灯台守の猫" * 40 + " number"))
    assert not any(page.indexed for page in pages)
    assert await store.history("local", list(Status), limit=10, where=words) == []
