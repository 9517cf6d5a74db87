"""Events while the broker does not confirm the exchange of events: the log decides, for a limited time."""

import asyncio
from typing import Any

import pytest

from common.bus.rabbitmq.publisher import EventPublisher, QueueFull
from common.bus.rabbitmq.topology import EVENTS, EVENTS_LOG
from common.domain.errors import Unavailable, Unconfirmed


class StubPublisher:
    """Raises the given error on the exchange of events; on that of the log it confirms, raises or never answers."""

    def __init__(self, error: Exception, log: Exception | asyncio.Event | None, *, is_silent: bool) -> None:
        self.is_silent = is_silent
        self.exchanges: list[str] = []
        self._error = error
        self._log = log

    async def publish(self, exchange, _key, _message):
        self.exchanges.append(exchange)
        if exchange == EVENTS:
            raise self._error
        if isinstance(self._log, asyncio.Event):
            await self._log.wait()
        elif self._log is not None:
            raise self._log

    async def publish_several(self, exchange, key, messages):
        found: list = []
        for message in messages:
            try:
                await self.publish(exchange, key, message)
                found.append(None)
            except Unavailable as error:
                found.append(error)
        return found


def an_event_publisher(stub: Any) -> Any:
    return EventPublisher(stub)


FULL = QueueFull("a queue is full")
SILENT = Unconfirmed("bus", "no confirm in time")


@pytest.mark.border(rule="A3")
@pytest.mark.parametrize("error", [FULL, SILENT])
async def test_an_event_counts_once_the_log_has_it(error):
    stub = StubPublisher(error, None, is_silent=error is SILENT)
    publisher = an_event_publisher(stub)
    await publisher.publish("image.queued", None)

    assert stub.exchanges == [EVENTS, EVENTS_LOG]
    assert publisher.warning != ""


@pytest.mark.border(rule="A3")
@pytest.mark.parametrize(
    ("error", "log", "is_silent", "exchanges"),
    [
        (FULL, QueueFull("the log is full"), False, [EVENTS, EVENTS_LOG]),
        (SILENT, asyncio.Event(), True, [EVENTS, EVENTS_LOG]),
        (Unconfirmed("bus", "the connection was lost"), None, False, [EVENTS]),
        (Unavailable("bus", "not connected"), None, False, [EVENTS]),
    ],
)
async def test_an_event_that_the_log_lacks_is_an_error(error, log, is_silent, exchanges, monkeypatch):
    monkeypatch.setattr("common.bus.rabbitmq.publisher.LOG_ALONE_S", 0.01)
    stub = StubPublisher(error, log, is_silent=is_silent)
    publisher = an_event_publisher(stub)
    with pytest.raises(Unavailable):
        await publisher.publish("image.queued", None)

    assert stub.exchanges == exchanges
    assert publisher.warning == ""


@pytest.mark.border(rule="A3")
@pytest.mark.parametrize(
    ("error", "log", "is_silent", "outcomes"),
    [
        (FULL, None, False, [None, None]),
        (SILENT, None, True, [None, None]),
        (SILENT, asyncio.Event(), True, [SILENT, SILENT]),
        (Unavailable("bus", "not connected"), None, False, None),
    ],
)
async def test_each_of_several_events_counts_once_the_log_has_it(monkeypatch, error, log, is_silent, outcomes):
    monkeypatch.setattr("common.bus.rabbitmq.publisher.LOG_ALONE_S", 0.01)
    publisher = an_event_publisher(StubPublisher(error, log, is_silent=is_silent))
    found = await publisher.publish_several("image.deleted", [None, None])

    assert found == (outcomes or [error, error])
    assert bool(publisher.warning) is (found == [None, None])
