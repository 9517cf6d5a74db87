"""The share links of an image in each store."""

import asyncio

import pytest

from common.domain.errors import LimitReached, NotFound
from common.runtime.clock import ManualClock
from services.api.sharing.links import KEPT_ON, KIND, MAX_LINKS, ShareLinks
from tests.making import NOON, an_image

DAY_S = 86_400


async def test_links_are_kept_until_they_expire_or_are_revoked(store):
    clock, image = ManualClock(NOON), an_image()
    links = ShareLinks(store, clock)

    first = await links.add(image, lifetime_s=60, shows_prompt=True)
    second = await links.add(image, lifetime_s=DAY_S, shows_prompt=False)
    assert await links.of(image) == [first, second]
    clock.advance(60)
    assert await links.of(image) == [second]
    assert await store.remove_expired_entries(clock.now()) == 0
    with pytest.raises(NotFound):
        await links.revoke(image, first.id)
    await links.revoke(image, second.id)

    assert await links.of(image) == []
    assert await store.remove_expired_entries(clock.now() + KEPT_ON) == 1
    assert await store.list_entries(KIND) == []


async def test_links_are_those_of_one_image(store):
    """An image that gets the id of a purged one has none of its links."""
    links = ShareLinks(store, ManualClock(NOON))
    image, other = an_image(), an_image()
    link = await links.add(image, lifetime_s=DAY_S, shows_prompt=True)

    assert await links.of(other) == []
    for fields in ({"owner": "another"}, {"created_at": NOON.replace(hour=11)}):
        reused = image.model_copy(update=fields)
        assert await links.of(reused) == []
        with pytest.raises(NotFound):
            await links.revoke(reused, link.id)
    assert await links.of(image) == [link]


async def test_of_racing_requests_no_more_than_the_limit_get_a_link(store, other):
    image = an_image()
    links = [ShareLinks(each, ManualClock(NOON)) for each in (store, other)]

    async def add(number):
        try:
            return await links[number % 2].add(image, lifetime_s=DAY_S, shows_prompt=True)
        except LimitReached as error:
            return error

    outcomes = await asyncio.gather(*(add(number) for number in range(MAX_LINKS + 4)))

    refused = [each for each in outcomes if isinstance(each, LimitReached)]
    assert len(refused) == 4
    assert {each.retry_after_s for each in refused} == {DAY_S}
    assert {link.id for link in await links[0].of(image)} == {each.id for each in outcomes if each not in refused}
