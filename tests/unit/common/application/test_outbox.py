"""What the outbox does when the bus takes the command but not the event, or neither."""

import pytest

from common.bus.memory import MemoryBus
from common.bus.port import WorkQueue
from common.domain.errors import NotAccepted, Unavailable, Unconfirmed
from common.runtime.clock import ManualClock
from common.store.sqlite import SqliteStore
from tests.making import an_image, an_outbox


class Broken(MemoryBus):
    """A bus in memory that refuses what it is told to."""

    def __init__(self, clock, *, publish: Exception | None, send: Exception | None) -> None:
        super().__init__(clock=clock)
        self._publish_error = publish
        self._send_error = send

    async def publish(self, event):
        if self._publish_error:
            raise self._publish_error
        await super().publish(event)

    async def send(self, command, *, delay_s=0):
        if self._send_error:
            raise self._send_error
        await super().send(command, delay_s=delay_s)


@pytest.mark.border(rule="A3")
@pytest.mark.parametrize("error", [None, NotAccepted("bus", "a queue is full"), NotAccepted("bus", "no right")])
async def test_the_command_does_not_depend_on_the_event(tmp_path, error):
    clock = ManualClock()
    async with (
        SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store,
        Broken(clock, publish=error, send=None) as bus,
    ):
        image = an_image(created_at=clock.now())
        await store.insert(image)
        await an_outbox(bus, store, clock, source="api").dispatch(image)

        assert await bus.waiting(WorkQueue.GENERATE) == 1
        assert (await store.get(image.id)).sent_at == clock.now()


@pytest.mark.border(rule="A3")
@pytest.mark.parametrize(
    ("publish", "send"),
    [
        (NotAccepted("bus", "a queue is full"), Unconfirmed("bus", "no answer")),
        (None, Unavailable("bus", "not connected")),
        (Unconfirmed("bus", "no answer"), None),  # a broker that is away is not asked twice
    ],
)
async def test_a_command_that_is_not_confirmed_is_not_noted_as_sent(tmp_path, publish, send):
    clock = ManualClock()
    async with (
        SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store,
        Broken(clock, publish=publish, send=send) as bus,
    ):
        image = an_image(created_at=clock.now())
        await store.insert(image)
        with pytest.raises(Unavailable):
            await an_outbox(bus, store, clock, source="api").dispatch(image)

        assert (await store.get(image.id)).sent_at is None
