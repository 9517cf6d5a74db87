"""One image for each order, each final event once: both over connections that are lost."""

import asyncio
import random
import threading
from collections import Counter
from contextlib import aclosing, closing, suppress

import pytest

from darkroom_client import AsyncDarkroom, Completed, Darkroom, Gap, OrderOptions, Retries
from tests.client.balancer import Balancer
from tests.cluster import embedded
from tests.faults.event_stream import EventSource, StreamResult, _kill_replicas
from tests.faults.fault_cluster import fault_cluster
from tests.inference_double import inference_double

SMALL: OrderOptions = {"width": 64, "height": 64, "steps": 2}
QUICK = Retries(delays_s=(0.05,) * 40, patience_s=30)


async def order_through_cuts(folder, count: int, seed: int) -> tuple[int, int, int]:
    """Orders whose answers are cut off at random; how many images were returned, recorded and painted."""
    dice = random.Random(seed)
    async with inference_double() as inference, embedded(folder, INFERENCE_SERVICE_URL=inference.url) as cluster:
        # an answer has about 1,300 bytes: half of the connections are lost in or before it
        balancer = Balancer(
            [cluster.api_port], lambda: dice.randrange(1500) if dice.random() < 0.7 else None, seed=seed
        )
        async with (
            balancer.running(),
            AsyncDarkroom(balancer.url, retries=QUICK, trust_env=False) as darkroom,
            AsyncDarkroom(cluster.url, trust_env=False) as direct,
        ):
            images = await asyncio.gather(*(darkroom.generate(f"number {each}", **SMALL) for each in range(count)))
            recorded = [item.id async for item in direct.history(status="all", per_page=100)]
        assert balancer.cuts > count / 4
        assert sorted(image.id for image in images) == sorted(recorded)
        return len({image.id for image in images}), len(recorded), len(inference.orders)


async def test_orders_with_lost_answers_make_one_image_each(tmp_path):
    assert await order_through_cuts(tmp_path, 20, seed=1) == (20, 20, 20)


@pytest.mark.clients
@pytest.mark.timeout(300)
async def test_200_orders_with_lost_answers_make_200_images(tmp_path):
    assert await order_through_cuts(tmp_path, 200, seed=2) == (200, 200, 200)


class FinalEvents:
    """Counts the final events that `listen` shows."""

    def __init__(self, darkroom: AsyncDarkroom) -> None:
        self.completed: Counter[str] = Counter()
        self.gaps = 0
        self.ready = asyncio.Event()
        self.last: dict[str, asyncio.Event] = {}
        self._darkroom = darkroom

    async def run(self) -> None:
        async with aclosing(self._darkroom.listen()) as events:
            async for event in events:
                self.ready.set()
                self.gaps += isinstance(event, Gap)
                if isinstance(event, Completed):
                    self.completed[event.image_id] += 1
                    self.last.setdefault(event.image_id, asyncio.Event()).set()

    def until(self, image_id: str) -> asyncio.Event:
        return self.last.setdefault(image_id, asyncio.Event())


def completed_of(url: str, ready: threading.Event, count: int) -> list[str]:
    """The images whose end the synchronous client shows, until there are so many."""
    found: list[str] = []
    with Darkroom(url, trust_env=False) as darkroom, closing(darkroom.listen()) as events:
        for event in events:
            ready.set()
            if isinstance(event, Completed):
                found.append(event.image_id)
                if len(found) == count:
                    return found
    raise AssertionError("listen ended")


@pytest.mark.long
async def test_listening_over_lost_connections_in_one_process(tmp_path):
    """Both clients listen through a balancer that cuts each connection after a few frames."""
    dice = random.Random(3)
    async with inference_double() as inference, embedded(tmp_path, INFERENCE_SERVICE_URL=inference.url) as cluster:
        balancer = Balancer([cluster.api_port], lambda: dice.randrange(600, 4000))
        async with (
            balancer.running(),
            AsyncDarkroom(balancer.url, trust_env=False) as darkroom,
            AsyncDarkroom(cluster.url, trust_env=False) as direct,
        ):
            listener = FinalEvents(darkroom)
            task = asyncio.create_task(listener.run())
            is_ready = threading.Event()
            listening = asyncio.create_task(asyncio.to_thread(completed_of, balancer.url, is_ready, 20))
            await listener.ready.wait()
            await asyncio.to_thread(is_ready.wait, 20)
            images = []
            for _ in range(4):
                images += await direct.generate_batch("a lighthouse", 5, **SMALL)
            async with asyncio.timeout(20):
                for image in images:
                    await listener.until(image.id).wait()
                assert Counter(await listening) == Counter(image.id for image in images)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    assert balancer.cuts > 10
    assert listener.completed == Counter(image.id for image in images)


@pytest.mark.clients
@pytest.mark.timeout(400)
async def test_a_thousand_disconnects_over_killed_replicas(tmp_path, vhost):
    """Events are published by a source, two apis are killed in turn, connections are cut after a few frames."""
    dice = random.Random(4)
    result = StreamResult()
    async with fault_cluster(tmp_path, vhost) as cluster:
        for alias in ("api-1", "api-2"):
            await cluster.add_service("api", alias=alias, WEBSOCKETS_PER_OWNER="100")
        await cluster.start()
        ports = [int(url.rpartition(":")[2]) for url in cluster.urls.values()]
        balancer = Balancer(ports, lambda: dice.randrange(400, 4000) if balancer.cuts < 1000 else None)
        async with balancer.running(), cluster.bus() as bus, AsyncDarkroom(balancer.url, trust_env=False) as darkroom:
            listeners = [FinalEvents(darkroom) for _ in range(8)]
            tasks = [asyncio.create_task(listener.run()) for listener in listeners]
            tasks.append(asyncio.create_task(_kill_replicas(cluster, result, dice, 3)))
            await asyncio.gather(*(listener.ready.wait() for listener in listeners))
            source = EventSource(bus, seed=4)
            while balancer.cuts < 1000 or not result.kills:
                await source.publish_lives(10)
                for task in tasks:
                    if task.done():
                        task.result()  # raises why it has ended
            tasks.pop().cancel()
            last = await source.publish_life()
            # connections are not cut any more, so that the listeners catch up: they get one or two events for each
            waiting = asyncio.gather(*(listener.until(last).wait() for listener in listeners))
            ends: list[asyncio.Future] = [waiting, *tasks]
            await asyncio.wait(ends, timeout=90, return_when=asyncio.FIRST_COMPLETED)
            assert waiting.done(), [task for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    assert result.kills > 2
    assert [listener.gaps for listener in listeners] == [0] * len(listeners)
    for listener in listeners:
        assert listener.completed == Counter(source.published)
