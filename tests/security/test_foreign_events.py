"""Events are shown only to their owner: 1,000 users, events in random order."""

import asyncio
import json
import random
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from typing import Any

import pytest

from common.application.events import EventFactory
from common.application.fleet.reader import Fleet
from common.bus.memory import MemoryBus
from common.domain.images import new_image_id
from common.messages import Deleted, ImageDeleted, ImageProgressed, Progress
from common.runtime.clock import SystemClock
from common.runtime.settings import Settings
from services.api.auth.signing import Signing
from services.api.events.live import LiveEvents
from services.api.events.recent_times import RecentTimes
from services.api.presenter import Presenter
from tests.making import an_event_factory, an_image
from tests.security.callers import SIGNING

USERS, EVENTS = 1000, 4000
NO_STORE: Any = None  # events are read from the log alone


def names(dice: random.Random) -> list[str]:
    """Similar names: prefixes, capitals, colons, spaces, other alphabets; then random ones."""
    alike = [
        "a",
        "A",
        "a:0",
        "a ",
        " a",
        "aa",
        "\u0430",
        "\uff41",
        "a%3A0",
        "*",
        "#",
        "",
        "None",
        "local",
        "a\u0301",
        "á",
    ]
    return [*alike, *(f"user-{dice.getrandbits(40):x}" for _ in range(USERS - len(alike)))]


def an_event(owner: str, dice: random.Random, clock: SystemClock, events: EventFactory):
    now = clock.now()
    image = an_image(owner=owner, id=new_image_id(now), image_file="generated_images/2025/01/x.png", created_at=now)
    common: dict[str, Any] = {
        "source": "test",
        "subject": image.id,
        "time": now,
        "owner": owner,
        "revision": 1,
        "attempt": 1,
    }
    match dice.randrange(3):
        case 0:
            return events.changed(image, "image.queued")
        case 1:
            progress = Progress(id=image.id, step=1, steps=2, seconds_left=None)
            return ImageProgressed(id=f"{image.id}.1.1", data=progress, **common)
        case _:
            return ImageDeleted(id=f"{image.id}.1", data=Deleted(id=image.id), **common)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.fault(row=61)
@pytest.mark.long_unless("1")
async def test_no_event_reaches_a_foreign_socket(seed):
    """Events of many owners, each with a socket, whose names are made to look alike."""
    dice, clock = random.Random(seed), SystemClock()
    users = names(dice)
    settings = Settings(jwt_secret="x" * 32, media_signing_keys=(SIGNING,))
    received: dict[str, list] = defaultdict(list)
    async with MemoryBus(clock=clock, log_size=2 * EVENTS) as bus, AsyncExitStack() as sockets:
        factory = an_event_factory(clock)
        parts = (Signing(settings, clock), NO_STORE, clock, RecentTimes(clock), 0, Fleet(NO_STORE, clock))
        data = Presenter(factory.presenter, *parts).event_data
        live = LiveEvents(bus, clock, backlog=2 * EVENTS, lookback_s=60, data=data)
        events = [an_event(dice.choice(users), dice, clock, factory) for _ in range(EVENTS)]
        for user in users:
            await sockets.enter_async_context(live.subscribed(user, received[user].append))
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            reading = group.create_task(live.run())
            await live.ready()
            over = asyncio.Event()
            async with live.subscribed("the end", lambda _: over.set()):
                for event in [*events, an_event("the end", dice, clock, factory)]:
                    await bus.publish(event)
                await over.wait()
            reading.cancel()

    expected = Counter(event.owner for event in events)
    assert {user: len(shown) for user, shown in received.items() if shown} == dict(expected)
    for user, shown in received.items():
        assert {each.event.owner for each in shown} <= {user}
    ours = {user: {each.event.subject for each in shown} for user, shown in received.items()}
    for user, shown in received.items():
        assert {json.loads(each.frame)["subject"] for each in shown} == ours[user]
