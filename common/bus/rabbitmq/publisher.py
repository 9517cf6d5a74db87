"""The publisher of this process: one channel with publisher confirms, for any number of messages at once.

A message is confirmed (`publish` returns), `Unavailable` (the broker does not have it) or `Unconfirmed`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelInvalidStateError, DeliveryError, PublishError
from aiormq.exceptions import ChannelAccessRefused

from common.bus.handling import cancel_requests
from common.bus.rabbitmq.connection import BrokerConnection, ResetBackoff, Session
from common.bus.rabbitmq.deadlines import BrokerUnavailable, deadline, describe_error, error_reason, wait_for_event
from common.bus.rabbitmq.frames.outgoing import ConfirmingChannel, OutgoingMessage
from common.bus.rabbitmq.topology import EVENTS, EVENTS_LOG
from common.domain.errors import Misconfigured, NotAccepted, Unavailable, Unconfirmed
from common.runtime import metrics

log = logging.getLogger(__name__)

BLOCKED_CHECK_S: Final = 1.0
# After a missing confirm the publisher is unready for this long. Later the broker may be well: nothing was published.
SILENCE_S: Final = 30.0
LOG_ALONE_S: Final = 1.0  # for the log alone to confirm; a broker that is silent altogether costs no more than this
WARNING_S: Final = 60.0  # between two warnings that a foreign queue refuses events; a warning lasts as long
_REFUSED_EXCHANGE: Final = re.compile(r"exchange '([^']*)' in vhost")  # RabbitMQ 3.10 to 4.3


class Publisher:
    """Needs its own connection: in an alarm the broker blocks a connection that publishes, its acks included."""

    def __init__(self, connection: BrokerConnection) -> None:
        self._connection = connection
        self._session: Session | None = None
        self.ready = asyncio.Event()
        self._channel: ConfirmingChannel | None = None
        self._in_flight: dict[str, asyncio.Future[None]] = {}
        self._blocked = False
        self._silent_at: float | None = None
        self._refused: dict[str, str] = {}  # exchanges on which this user may not publish, with the broker's words

    @property
    def unready_reason(self) -> str:
        refused = next(iter(self._refused.values()), "")
        if self._session is None or self._session.lost.is_set():
            return self._connection.unready_reason or refused or "no channel to publish on"
        if self._blocked:
            return "the broker takes no messages: its disk or memory is full"
        if self.is_silent:
            return "the broker has not confirmed the latest message"
        return refused

    @property
    def is_silent(self) -> bool:
        return self._silent_at is not None and asyncio.get_running_loop().time() - self._silent_at < SILENCE_S

    async def run(self) -> None:
        await self._connection.run_sessions(self._use_session, self._on_failure, confirms=True)

    async def publish(self, exchange: str, key: str, message: OutgoingMessage) -> None:
        """Publish a message; returns once the broker has confirmed it.

        Raises:
            Unavailable: not connected in time, refused by a full queue, no queue is bound, or this user may not.
            Unconfirmed: the connection was lost, or the broker did not confirm in time.
        """
        (error,) = await self.publish_several(exchange, key, [message])
        if error is not None:
            raise error

    async def publish_several(
        self, exchange: str, key: str, messages: Sequence[OutgoingMessage]
    ) -> list[Unavailable | None]:
        """Write the messages together, then wait for their confirms; what `publish` raises for each, or None."""
        exchange = self._connection.prefix + exchange
        if exchange in self._refused:
            return [await self._outcome_alone(exchange, key, message) for message in messages]
        found: list[BaseException | None] = []  # those known at a timeout count too
        sent = False
        before = cancel_requests()
        try:
            async with asyncio.timeout(self._connection.timeout_s), self._one_at_a_time(messages):
                while not sent:
                    session, channel = await self._session_and_channel()
                    try:
                        confirms = await channel.write(exchange, key, messages)
                    except ChannelInvalidStateError:  # raised before anything is written
                        session.lose(None)
                    else:
                        sent = True
                        for confirm in confirms:
                            found.append(await _failure(confirm, before))  # noqa: PERF401
        except TimeoutError:
            error = self._timeout_error(sent=sent, what=f"{exchange} {key}")
            found += [error] * (len(messages) - len(found))
        if not any(found):
            self._silent_at = None
        return [each if each is None else await self._error(exchange, key, each) for each in found]

    async def _outcome_alone(self, exchange: str, key: str, message: OutgoingMessage) -> Unavailable | None:
        try:
            await self._publish_alone(exchange, key, message)
        except Unavailable as error:
            return error
        return None

    async def _error(self, exchange: str, key: str, error: BaseException) -> Unavailable:
        if isinstance(error, Unavailable):
            return error
        found = await self._described(exchange, key, error)
        found.__cause__ = error
        return found

    async def _described(self, exchange: str, key: str, error: BaseException) -> Unavailable:
        match error:
            case asyncio.CancelledError():
                return Unconfirmed("bus", "the connection was lost")
            case PublishError():
                await self._repair()
                return BrokerRefused(f"no queue is bound to {exchange} for {key!r}")
            case DeliveryError():
                return QueueFull(f"a queue behind {exchange} refused the message, it may be full")
            case ChannelAccessRefused():
                return self._access_error(exchange, error)
        return Unconfirmed("bus", describe_error(error))

    async def _publish_alone(self, exchange: str, key: str, message: OutgoingMessage) -> None:
        """Publish on a channel of its own: where this user may not publish, the broker closes the channel.

        On the common channel this would cost every message in flight.
        """
        async with self._connection.session(confirms=True) as session, deadline(self._connection.timeout_s):
            try:
                (confirm,) = await ConfirmingChannel(session.raw).write(exchange, key, [message])
                await confirm
            except ChannelAccessRefused as error:
                raise BrokerRefused(self._refused[exchange]) from error
            except DeliveryError as error:
                del self._refused[exchange]
                raise QueueFull(f"a queue behind {exchange} refused the message, it may be full") from error
        self._refused.pop(exchange, None)
        log.info("this user may publish to %s now", exchange)

    def _access_error(self, exchange: str, error: ChannelAccessRefused) -> Unavailable:
        """The error for a message that was in flight when the broker closed the channel for a lack of rights."""
        text = str(error.args[0])
        found = _REFUSED_EXCHANGE.search(text)
        if found is None or found[1] != exchange:
            return Unconfirmed("bus", describe_error(error))  # another message was refused
        if exchange not in self._refused:
            log.error("this user may not publish to the exchange %s: %s", exchange, text)
        self._refused[exchange] = f"not allowed to publish to {exchange}: {text}"
        return BrokerRefused(self._refused[exchange])

    @asynccontextmanager
    async def _one_at_a_time(self, messages: Sequence[OutgoingMessage]) -> AsyncIterator[None]:
        """A returned message is found by its id, so two messages in flight with one id could be mixed up."""
        ids = [message.id for message in messages]
        while others := [self._in_flight[each] for each in ids if each in self._in_flight]:
            await asyncio.wait(others)
        done = asyncio.get_running_loop().create_future()
        self._in_flight |= dict.fromkeys(ids, done)
        try:
            yield
        finally:
            for each in ids:
                self._in_flight.pop(each, None)
            done.set_result(None)

    def _timeout_error(self, *, sent: bool, what: str) -> Unavailable:
        if not sent:
            return BrokerUnavailable(self._connection.unready_reason or "no channel to publish on")
        self._silent_at = asyncio.get_running_loop().time()
        return Unconfirmed("bus", f"the broker did not confirm within {self._connection.timeout_s:g} s ({what})")

    async def _session_and_channel(self) -> tuple[Session, ConfirmingChannel]:
        while self._session is None or self._channel is None or self._session.lost.is_set():
            self._forget_session(self._session)
            await self.ready.wait()
        return self._session, self._channel

    async def _use_session(self, session: Session, reset_backoff: ResetBackoff) -> None:
        self._session, self._channel, self._silent_at = session, ConfirmingChannel(session.raw), None
        self.ready.set()
        reset_backoff()
        try:
            while not session.lost.is_set():
                await self._check_alarm()
                await wait_for_event(session.lost, BLOCKED_CHECK_S)
        finally:
            self._forget_session(session)
            self._blocked = False
        if session.reason is not None:  # the outcome of the messages in flight is unknown
            log.warning("the channel to publish on was closed: %s", describe_error(session.reason))

    def _on_failure(self, error: BrokerUnavailable | Misconfigured, _: int) -> None:
        log.warning("there is no channel to publish on: %s", error_reason(error))

    async def _check_alarm(self) -> None:
        was_blocked, self._blocked = self._blocked, await self._connection.is_blocked()
        if was_blocked and not self._blocked:
            self._silent_at = None  # the alarm explains the missing confirm

    def _forget_session(self, session: Session | None) -> None:
        if session is self._session:
            self._session = None
            self.ready.clear()

    async def _repair(self) -> None:
        try:
            await self._connection.repair()
        except (BrokerUnavailable, Misconfigured) as error:
            log.warning("a missing exchange or queue cannot be declared: %s", error_reason(error))


async def _failure(confirm: asyncio.Future[object], before: int) -> BaseException | None:
    """What the broker or the library raises for a message; `before` is of `cancel_requests`."""
    try:
        await confirm
    except (asyncio.CancelledError, *CONNECTION_EXCEPTIONS) as error:
        if cancel_requests() > before:
            raise error if isinstance(error, asyncio.CancelledError) else asyncio.CancelledError from error
        return error
    return None


class BrokerRefused(BrokerUnavailable, NotAccepted):
    """The broker answered that it does not accept the message."""


class QueueFull(BrokerRefused):
    """A full queue refused the message; for the waiting queue of a timer this is not a failure."""


class EventPublisher:
    """Publishes events: each counts as published once the log has it, whatever the queues of other services do.

    A confirm of the exchange waits for every bound queue, and one that is full and refuses turns it into a nack. Then
    the event goes once more, to the log alone; if it comes twice, its id is the same.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._warned_at: float | None = None
        self._refused_at: float | None = None

    @property
    def warning(self) -> str:
        if self._refused_at is None or asyncio.get_running_loop().time() - self._refused_at > WARNING_S:
            return ""
        return f"a queue of another service behind {EVENTS} refuses events: it may be full"

    async def publish(self, key: str, message: OutgoingMessage) -> None:
        """Raises as `Publisher.publish`."""
        try:
            await self._publisher.publish(EVENTS, key, message)
        except (QueueFull, Unconfirmed) as error:
            if not self._may_be_in_log(error):
                raise
            try:
                async with asyncio.timeout(LOG_ALONE_S):
                    await self._publisher.publish(EVENTS_LOG, key, message)
            except TimeoutError:
                raise error from None
            self._note_refusal(error)

    async def publish_several(self, key: str, messages: Sequence[OutgoingMessage]) -> list[Unavailable | None]:
        outcomes = await self._publisher.publish_several(EVENTS, key, messages)
        refused = {at: error for at, error in enumerate(outcomes) if error is not None and self._may_be_in_log(error)}
        if not refused:
            return outcomes
        try:
            async with asyncio.timeout(LOG_ALONE_S):
                by_log = await self._publisher.publish_several(EVENTS_LOG, key, [messages[at] for at in refused])
        except TimeoutError:
            return outcomes
        for (at, error), outcome in zip(refused.items(), by_log, strict=True):
            outcomes[at] = outcome
            if outcome is None:
                self._note_refusal(error)
        return outcomes

    def _may_be_in_log(self, error: Unavailable) -> bool:
        """Whether the log may take the event; if the connection was lost, it cannot be reached either."""
        return isinstance(error, QueueFull) or (isinstance(error, Unconfirmed) and self._publisher.is_silent)

    def _note_refusal(self, error: Unavailable) -> None:
        metrics.events_refused.inc()
        now = asyncio.get_running_loop().time()
        self._refused_at = now
        if self._warned_at is None or now - self._warned_at >= WARNING_S:
            self._warned_at = now
            log.warning("%s; the event log has the event (%s)", self.warning, error.detail)
