"""One confirmed channel for all that this process publishes; any number of messages may be under way on it.

Each ends in one of three ways: confirmed (it returns), `Unavailable` (the broker does not have it), `Unconfirmed`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aio_pika.abc import AbstractExchange
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelInvalidStateError, DeliveryError, PublishError
from aio_pika.message import Message as AmqpMessage

from common.bus.handling import cancel_requests
from common.bus.rabbitmq.connection import BrokerConnection, ResetBackoff, Session
from common.bus.rabbitmq.deadlines import BrokerUnavailable, describe_error, error_reason, wait_for_event
from common.domain.errors import Misconfigured, Unavailable, Unconfirmed

log = logging.getLogger(__name__)

BLOCKED_CHECK_S: Final = 1.0
# The broker kept silent on a message this long ago at most: after that it may be well, and only unasked.
SILENCE_S: Final = 30.0


class Publisher:
    """Publishes on a link of its own: under a broker's alarm one that publishes is stopped, acks and all."""

    def __init__(self, connection: BrokerConnection) -> None:
        self._connection = connection
        self._session: Session | None = None
        self.ready = asyncio.Event()
        self._exchanges: dict[str, AbstractExchange] = {}
        self._in_flight: dict[str, asyncio.Future[None]] = {}
        self._blocked = False
        self._silent_at: float | None = None

    @property
    def unready_reason(self) -> str:
        if self._session is None or self._session.lost.is_set():
            return self._connection.unready_reason or "no channel to publish on"
        if self._blocked:
            return "the broker takes no messages: its disk or memory is full"
        if self._silent_at is not None and asyncio.get_running_loop().time() - self._silent_at < SILENCE_S:
            return "the broker has not confirmed the latest message"
        return ""

    async def run(self) -> None:
        """Keep a channel open until cancelled."""
        await self._connection.run_sessions(self._use_session, self._on_failure, confirms=True)

    async def publish(self, exchange: str, key: str, message: AmqpMessage) -> None:
        """Returns once the broker has it for good.

        Raises:
            Unavailable: not connected in time, refused by a full queue, or no queue is bound.
            Unconfirmed: the link was lost, or the broker kept silent.
        """
        name = message.message_id or ""
        sent = False
        before = cancel_requests()
        try:
            async with asyncio.timeout(self._connection.timeout_s):
                # aiormq tells which message was returned by its id: two of one id at once could be mixed up
                while (other := self._in_flight.get(name)) is not None:
                    await asyncio.wait([other])
                self._in_flight[name] = done = asyncio.get_running_loop().create_future()
                try:
                    while not sent:
                        session, target = await self._session_and_exchange(exchange)
                        sent = True
                        try:
                            await target.publish(message, key, mandatory=True)
                        except ChannelInvalidStateError:  # raised before anything is written
                            sent = False
                            session.lose(None)
                finally:
                    del self._in_flight[name]
                    done.set_result(None)
        except TimeoutError:
            raise self._timeout_error(sent=sent, what=f"{exchange} {key}") from None
        except asyncio.CancelledError:
            if cancel_requests() > before:
                raise
            raise Unconfirmed("bus", "the link was lost") from None
        except PublishError as error:
            await self._repair()
            raise BrokerUnavailable(f"no queue is bound to {exchange} for {key!r}") from error
        except DeliveryError as error:
            raise QueueFull(f"a queue behind {exchange or key} refuses the message, it may be full") from error
        except CONNECTION_EXCEPTIONS as error:
            raise Unconfirmed("bus", describe_error(error)) from error
        self._silent_at = None

    def _timeout_error(self, *, sent: bool, what: str) -> Unavailable:
        if not sent:
            return BrokerUnavailable(self._connection.unready_reason or "no channel to publish on")
        self._silent_at = asyncio.get_running_loop().time()
        return Unconfirmed("bus", f"the broker did not confirm within {self._connection.timeout_s:g} s ({what})")

    async def _session_and_exchange(self, name: str) -> tuple[Session, AbstractExchange]:
        while self._session is None or self._session.lost.is_set():
            self._forget_session(self._session)
            await self.ready.wait()
        session = self._session
        if name not in self._exchanges:
            channel = session.channel
            self._exchanges[name] = await channel.get_exchange(name, ensure=False) if name else channel.default_exchange
        return session, self._exchanges[name]

    async def _use_session(self, session: Session, reset_backoff: ResetBackoff) -> None:
        self._exchanges.clear()
        self._session, self._silent_at = session, None
        self.ready.set()
        reset_backoff()
        try:
            while not session.lost.is_set():
                await self._check_alarm()
                await wait_for_event(session.lost, BLOCKED_CHECK_S)
        finally:
            self._forget_session(session)
            self._blocked = False
        if session.reason is not None:  # of what was under way the outcome is unknown
            log.warning("the channel to publish on was closed: %s", describe_error(session.reason))

    def _on_failure(self, error: BrokerUnavailable | Misconfigured, _: int) -> None:
        log.warning("there is no channel to publish on: %s", error_reason(error))

    async def _check_alarm(self) -> None:
        was_blocked, self._blocked = self._blocked, await self._connection.is_blocked()
        if was_blocked and not self._blocked:
            self._silent_at = None  # that was why

    def _forget_session(self, session: Session | None) -> None:
        if session is self._session:
            self._session = None
            self.ready.clear()

    async def _repair(self) -> None:
        try:
            await self._connection.repair()
        except (BrokerUnavailable, Misconfigured) as error:
            log.warning("what is missing cannot be declared: %s", error_reason(error))


class QueueFull(BrokerUnavailable):
    """A queue was full and says so: of the timers' waiting queues that is no failure."""
