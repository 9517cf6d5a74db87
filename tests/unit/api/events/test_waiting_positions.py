"""Queue positions of images that wait for their turn, in REST answers and in frames of a websocket."""

import json
from datetime import timedelta
from functools import partial

import pytest

from common.application.fleet.reader import Fleet
from common.domain import transitions
from common.domain.images import Status
from common.runtime.clock import ManualClock
from common.store.port import change
from common.store.sqlite import SqliteStore
from services.api.events import queue_positions
from services.api.events.queue_positions import MAX_POSITION, MAX_RANKED, OwnerPositions, estimates
from services.api.events.recent_times import WINDOW_S, RecentTimes
from tests.announcing import FakeGenerator
from tests.making import NOON, an_event_factory, an_image
from tests.unit.api.events.test_queue_positions import LIMIT_S, api  # noqa: F401 - a fixture


@pytest.fixture
def interval():
    return 0.01


@pytest.fixture
def limits():
    return {"CONCURRENT_REQUESTS": "2"}


def test_an_estimate_counts_the_turns_before_it():
    def estimated(ids, ahead, slots):
        return estimates(dict.fromkeys(ids, "sdxl"), dispatched={"default": ahead}, slots=slots)

    assert estimated("abcde", 6, slots=2) == {"a": 7, "b": 7, "c": 13, "d": 13, "e": 19}
    assert estimated("ab", 1, slots=0) == {"a": 2, "b": 2}
    assert estimated("ab", 1000, slots=1) == {"a": MAX_POSITION, "b": MAX_POSITION}
    assert estimated("", 6, slots=2) == {}


async def test_a_waiting_image_has_an_estimated_position(api):  # noqa: F811
    """Another owner has two images, this one five: two are in the queue, three wait."""
    for _ in range(2):
        await api.request("bob")
    answers = [await api.request("ada") for _ in range(5)]

    shown = [(each["queuePlace"], each["queuePlaceEstimated"], each["estimatedSeconds"]) for each in answers]
    assert shown == [(3, False, None), (4, False, None), (5, True, None), (5, True, None), (9, True, None)]
    assert [each["waitingSince"] is None for each in answers] == [True, True, False, False, False]
    assert [each["dispatchedAt"] is None for each in answers] == [False, False, True, True, True]
    assert [(await api.image("ada", each["id"]))["queuePlace"] for each in answers] == [3, 4, 5, 5, 9]


@pytest.mark.parametrize(("ranked", "position"), [(1000, None), (3, MAX_POSITION)])
async def test_an_image_that_is_not_in_line_has_its_turn(api, monkeypatch, ranked, position):  # noqa: F811
    """Three images wait, and a fourth was dispatched after it was read, or is beyond the ranked ones."""
    monkeypatch.setattr(queue_positions, "MAX_RANKED", ranked)
    for _ in range(5):
        await api.request("ada")
    image = an_image(owner="ada", waiting_since=NOON)

    assert await queue_positions.queue_position(image, store=api.store, clock=ManualClock(), slots=2) == position


@pytest.mark.parametrize(("length", "shown"), [(MAX_RANKED, ["first", "last"]), (3, ["first"])])
def test_an_image_beyond_the_ranked_of_its_line_has_a_position(length, shown):
    first, last = (an_image(waiting_since=NOON) for _ in range(2))
    positions = OwnerPositions(lambda: None)
    frames: list[str] = []
    positions.sent[frames.append] = ({}, frozenset())
    positions.add_queued([first, last])

    line = {first.id: 5, **dict.fromkeys(map(str, range(length - 1)), 7)}
    positions.update({}, NOON, line, in_line=line)

    expected = {"first": {first.id: 5}, "last": {last.id: MAX_POSITION}}
    assert json.loads(frames[0])["places"] == {key: value for each in shown for key, value in expected[each].items()}


async def test_a_websocket_receives_estimates_of_its_owner(api):  # noqa: F811
    """Three images of an owner with two slots; then the first ends, and the third has its turn."""
    async with api.socket("ada") as socket:
        first, second, third = [(await api.request("ada"))["id"] for _ in range(3)]
        frame = await _places(socket, 3)
        cancelled = await change(api.store, first, partial(transitions.cancel, now=api.now()))
        await api.outbox.publish_pending(cancelled)
        after = await _places(socket, 2)

    assert frame == {"type": "places", "places": {first: 1, second: 2, third: 3}, "estimated": [third]}
    assert after == {"type": "places", "places": {second: 1, third: 2}}


async def _places(socket, count):
    """The next frame with so many positions, of which all beyond the two slots are estimates."""
    while True:
        frame = await socket.receive_json(timeout=LIMIT_S)
        if frame["type"] == "places" and (len(frame["places"]), len(frame.get("estimated", []))) == (count, count - 2):
            return frame


def test_seconds_follow_from_recent_times_and_the_concurrency():
    """Two images are started at the same time, and take 10 and 30 seconds."""
    clock = ManualClock()
    times, events = RecentTimes(clock), an_event_factory(clock)
    images = [an_image(), an_image()]
    unknown = times.seconds_until(3)
    for image in images:
        times.on_event(events.changed(image, "image.started"))
    started = times.seconds_until(3)
    for image, seconds in zip(images, (10.0, 30.0), strict=True):
        done = image.model_copy(update={"status": Status.COMPLETED, "generation_time": seconds})
        times.on_event(events.changed(done, "image.completed"))

    known = [times.seconds_until(position) for position in (1, 3)]
    clock.advance(WINDOW_S + 1)

    assert (unknown, started) == (None, None)
    assert known == [10.0, 30.0]
    assert times.seconds_until(1) is None


async def test_positions_and_seconds_are_those_of_the_pool(tmp_path):
    """One pool paints four at once in 10 s each, the other one in 40 s; a third model has no generator any more."""
    clock = ManualClock()
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store:
        await FakeGenerator(store, clock, "a", concurrency=4).offer("sdxl")
        await FakeGenerator(store, clock, "b", pool="flux", concurrency=1).offer("flux")
        await (await FakeGenerator(store, clock, "c", pool="other").offer("gone")).stop()
        view = await Fleet(store, clock).current()
        queued = [an_image(created_at=NOON + timedelta(seconds=n - 5), pool="flux", model="flux") for n in range(2)]
        for image in (*queued, an_image(created_at=NOON - timedelta(hours=1))):
            await store.insert(image)
        places = [await queue_positions.queue_position(each, store=store, clock=clock, view=view) for each in queued]
        waiting = an_image(waiting_since=NOON, model="gone")
        await store.insert(waiting)

        assert places == [1, 2]
        assert await queue_positions.queue_position(waiting, store=store, clock=clock, view=view) is None
    line = {"x": "gone", "a": "sdxl", "b": "flux", "c": "flux"}
    ahead = {"default": 1, "flux": 7}
    assert estimates(line, dispatched=ahead, slots=2, view=view) == {"a": 2, "b": 8, "c": 15}

    times, events = RecentTimes(clock), an_event_factory(clock)
    for model, seconds in (("sdxl", 10.0), ("flux", 40.0), ("gone", 1.0)):
        done = an_image(model=model, status=Status.COMPLETED, generation_time=seconds)
        times.on_event(events.changed(done, "image.completed"))
    found = [times.seconds_until(2, view=view, pool=pool) for pool in ("default", "flux", "other")]
    assert found == [5.0, 80.0, None]
