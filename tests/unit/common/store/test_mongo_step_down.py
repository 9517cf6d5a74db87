"""A claim while the primary of a replica set steps down: row 44 of the faults.

The set is `tests/replica_set.py`: what is tried is the driver, our adapter and the moves, not the elections of MongoDB.
"""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import pytest

from common.domain import transitions
from common.domain.errors import InvalidTransition, Unavailable
from common.domain.images import Lease
from common.store.mongo import MongoStore
from common.store.port import change
from tests.making import NOON, an_image
from tests.replica_set import replica_set

LIMIT_S = 10.0  # for what takes some 10 ms
HOWS = ["refused", "interrupted", "unconfirmed", "cut"]


@pytest.fixture
async def members(database):
    async with replica_set(database) as members:
        yield members


@pytest.fixture
async def store(members):
    async with opened(members) as store:
        yield store


@asynccontextmanager
async def opened(members, *, timeout_s=LIMIT_S):
    """The store as one more process opens it, with its connections made."""
    async with MongoStore.open(members.url, timeout_s=timeout_s) as store:
        await store.get("any")
        yield store


def a_lease(worker):
    return Lease(token=f"token of {worker}", worker=worker, until=NOON + timedelta(seconds=30))


def claim(store, image, worker):
    transition = partial(transitions.claim, lease=a_lease(worker), now=NOON, deadline=timedelta(minutes=15))
    return change(store, image.id, transition)


async def an_order(store, members):
    image = an_image()
    await store.insert(image)
    members.applied.clear()
    return image


@pytest.mark.fault(row=44)
@pytest.mark.parametrize("remembers", [True, False], ids=["repeat known", "repeat made again"])
@pytest.mark.parametrize("how", HOWS)
async def test_a_claim_through_a_step_down_is_made_once(members, store, how, remembers):
    image = await an_order(store, members)
    members.remembers = remembers

    members.step_down_at("update", how=how)
    claimed = await claim(store, image, "a")

    assert members.primary == 1
    assert (claimed.status, claimed.attempts, claimed.lease, claimed.revision) == ("running", 1, a_lease("a"), 2)
    assert await store.get(image.id) == claimed
    was_made = how != "refused"
    assert (len(members.applied), members.repeated) == (1 + (was_made and not remembers), was_made and remembers)


@pytest.mark.fault(row=44)
@pytest.mark.parametrize("remembers", [True, False], ids=["repeat known", "repeat made again"])
@pytest.mark.parametrize("how", HOWS)
async def test_of_two_claims_through_a_step_down_one_wins(members, store, how, remembers):
    image = await an_order(store, members)
    members.remembers = remembers
    async with opened(members) as other:
        members.step_down_at("update", how=how, among=2)

        outcomes = await asyncio.gather(claim(store, image, "a"), claim(other, image, "b"), return_exceptions=True)

        [loss] = [outcome for outcome in outcomes if isinstance(outcome, InvalidTransition)]
        [won] = [outcome for outcome in outcomes if outcome is not loss]
        assert loss.code == "leased"
        assert (won.status, won.attempts, won.lease) == ("running", 1, a_lease("a" if won is outcomes[0] else "b"))
        assert await store.get(image.id) == await other.get(image.id) == won


@pytest.mark.fault(row=44)
@pytest.mark.parametrize("how", ["refused", "interrupted"])
async def test_without_a_primary_the_store_is_unavailable(members, store, how):
    image = await an_order(store, members)
    async with opened(members, timeout_s=0.5) as hasty:
        members.step_down_at("update", how=how, successor=None)

        async with asyncio.timeout(LIMIT_S):
            with pytest.raises(Unavailable, match="store"):
                await claim(hasty, image, "a")
            with pytest.raises(Unavailable, match="store"):
                await hasty.get(image.id)

    members.elect(1)
    claimed = await claim(store, image, "a")  # the same worker asks again, and cannot know whether it has it

    assert (claimed.status, claimed.attempts, claimed.lease, claimed.revision) == ("running", 1, a_lease("a"), 2)
    with pytest.raises(InvalidTransition) as refused:
        await claim(store, image, "b")
    assert refused.value.code == "leased"
