"""Compare-and-swap: one of several racing writers wins."""

import asyncio
from functools import partial

import pytest

from common.domain import transitions
from common.domain.errors import InvalidTransition, NotFound
from common.store.port import change
from tests.contract.store.records import counted, next_of
from tests.making import NOON, an_image
from tests.servers.fork_server import forked_python


async def test_of_racing_writers_exactly_one_wins_each_revision(store, other):
    image = an_image()
    await store.insert(image)

    for _ in range(3):
        rivals = [next_of(image, prompt=f"prompt {count}") for count in range(50)]
        outcomes = await asyncio.gather(
            *((store, other)[count % 2].replace(rival) for count, rival in enumerate(rivals))
        )

        assert outcomes.count(True) == 1
        image = rivals[outcomes.index(True)]
        assert await store.get(image.id) == image


@pytest.mark.long_unless("sqlite")
async def test_change_applies_every_transition_of_racing_writers(store, other):
    image = an_image()
    await store.insert(image)

    await asyncio.gather(*(change((store, other)[count % 2], image.id, counted) for count in range(50)))

    assert await store.get(image.id) == image.model_copy(update={"failures": 50, "revision": 51})


async def test_change_writes_nothing_if_nothing_changes(store):
    image = an_image()
    await store.insert(image)

    assert await change(store, image.id, lambda found: found) == image

    assert (await store.get(image.id)).revision == 1


async def test_change_lets_a_refusal_through(store):
    image = transitions.cancel(an_image(), now=NOON)
    await store.insert(image)

    with pytest.raises(InvalidTransition):
        await change(store, image.id, partial(transitions.cancel, now=NOON))
    with pytest.raises(NotFound):
        await change(store, an_image().id, partial(transitions.cancel, now=NOON))


@pytest.mark.long
async def test_processes_share_the_store(store, store_url):
    image = an_image()
    await store.insert(image)
    children = [await forked_python("-c", COUNTING, store_url, image.id) for _ in range(2)]

    for _ in range(50):
        await change(store, image.id, counted)
    assert [await child.wait() for child in children] == [0, 0]

    assert await store.get(image.id) == image.model_copy(update={"failures": 150, "revision": 151})


COUNTING = """
import asyncio, sys
from common.store.connect import open_store
from common.store.port import change
async def main(url, image_id):
    transition = lambda image: image.model_copy(update={"failures": image.failures + 1, "revision": image.revision + 1})
    async with open_store(url, timeout_s=20) as store:
        for _ in range(5):
            await asyncio.gather(*(change(store, image_id, transition) for _ in range(10)))
asyncio.run(main(*sys.argv[1:]))
"""
