"""A connection to the broker that reconnects by itself.

    connect ──▶ prepare ──▶ up ──▶ lost ──▶ connect again after a pause

Why not aio-pika's robust connections: docs/decisions/0005-own-reconnect-loop.md.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import InvalidFrameError, ProbableAuthenticationError
from aiormq.abc import AbstractChannel as RawChannel
from aiormq.connection import DEFAULT_PORTS
from yarl import URL

from common.bus.handling import cancel_requests
from common.bus.rabbitmq.deadlines import (
    BrokerUnavailable,
    close_quietly,
    deadline,
    describe_error,
    error_reason,
    raise_if_cancelled,
)
from common.bus.rabbitmq.declaring import declare_queue
from common.bus.rabbitmq.topology import QueueSpec
from common.bus.rabbitmq.transport import TolerantTransport
from common.domain.errors import Misconfigured

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.1  # a deleted queue is declared and consumed again within a second
LONGEST_PAUSE_S: Final = 3.0  # a broker that restarts takes 6 s and more
# If a quorum queue is deleted and declared again at once, its consumers get no cancel notification and no messages any
# more. The broker needs 40 ms to notify them (3.10.8, idle).
REPAIR_PAUSE_S: Final = 0.25
LOG_EVERY: Final = 20  # attempts that fail for the same reason: one log line a minute
# Methods of aiormq 7.2.4 that log an ERROR at each attempt and each close. This module logs the same once.
_LOGGED_HERE: Final = frozenset({"connect", "__handle_close"})


class Session:
    """A channel until it is lost: `lost` is set when the connection, the channel or a consumer on it has ended."""

    def __init__(self, channel: AbstractChannel, raw: RawChannel) -> None:
        self.channel = channel
        self.raw = raw
        self.lost = asyncio.Event()
        self.reason: BaseException | None = None
        self.on_lost: Callable[[], None] = lambda: None
        channel.close_callbacks.add(lambda _, error: self.lose(error))
        raw.on_consumer_cancel_callbacks.add(lambda _: self.lose(None))

    def lose(self, reason: BaseException | None) -> None:
        self.reason = self.reason or reason
        if not self.lost.is_set():
            self.lost.set()
            self.on_lost()


ResetBackoff = Callable[[], None]
UseSession = Callable[[Session, ResetBackoff], Awaitable[None]]
# Called with the error and the number of failed attempts before it.
OnFailure = Callable[[BrokerUnavailable | Misconfigured, int], None]


class BrokerConnection:
    """`prepare` runs on each new connection before it is used; the broker's management tools show `name`.

    Names of exchanges and queues begin with `prefix` on the broker. The nodes of `urls` are tried in turn.
    """

    def __init__(
        self,
        urls: Sequence[URL],
        *,
        prefix: str,
        name: str,
        heartbeat: int,
        timeout_s: float,
        prepare: Callable[[AbstractConnection], Awaitable[None]],
        ends_when_misconfigured: bool = True,
    ) -> None:
        self.unready_reason = "not connected yet"
        self.attempted = asyncio.Event()  # the first attempt has ended, successfully or not
        self.timeout_s = timeout_s
        self.prefix = prefix
        self._urls = [url.update_query(heartbeat=heartbeat) for url in urls]
        self._name = name
        self._prepare = prepare
        self._connection: AbstractConnection | None = None
        self._up = asyncio.Event()
        self._ends_when_misconfigured = ends_when_misconfigured
        self._prepare_count = 0  # calls of `prepare` so far
        self._repairing = asyncio.Lock()

    async def run(self) -> None:
        """Keep the connection up until cancelled.

        Raises:
            Misconfigured: the configuration is wrong and no connection has been up yet; later it is retried instead.
        """
        logging.getLogger("aiormq.connection").addFilter(_is_left_to_aiormq)
        await _retry_forever(self._connect_once, self._on_failure)

    @property
    def prepare_count(self) -> int:
        """Changes with each new connection, and when something declared was missing."""
        return self._prepare_count

    async def wait_until_up(self, *, last_prepared: int) -> int:
        """Wait for a connection that is prepared, without a time limit; return the value for the next call.

        The first call passes 0. A caller that has lost only its channel finds the same connection again: then
        something declared may be missing, and `prepare` runs again. Raises BrokerUnavailable, Misconfigured.
        """
        await self._up.wait()
        if self._prepare_count == last_prepared:
            await self.repair()
        return self._prepare_count

    async def _wait_for_connection(self) -> AbstractConnection:
        """The connection, as soon as it is up. Raises BrokerUnavailable after `timeout_s`."""
        try:
            async with asyncio.timeout(self.timeout_s):
                while self._connection is None:
                    await self._up.wait()
                return self._connection
        except TimeoutError:
            raise BrokerUnavailable(self.unready_reason) from None

    @asynccontextmanager
    async def session(self, *, confirms: bool = False) -> AsyncIterator[Session]:
        """Open a channel for one caller. Raises BrokerUnavailable."""
        connection = await self._wait_for_connection()
        async with deadline(self.timeout_s):
            channel = await connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
            session = Session(channel, await channel.get_underlay_channel())
        try:
            yield session
        finally:
            await close_quietly(channel.close())

    async def declare(self, queue: QueueSpec) -> None:
        """Declare a queue on a channel of its own: a refusal closes it. Raises BrokerUnavailable, Misconfigured."""
        connection = await self._wait_for_connection()
        async with deadline(self.timeout_s):
            await declare_queue(connection, queue)

    async def repair(self) -> None:
        """Run `prepare` again, because something declared is missing. Raises BrokerUnavailable, Misconfigured."""
        count = self._prepare_count
        async with self._repairing:
            if self._prepare_count != count:
                return  # another call has prepared meanwhile
            await asyncio.sleep(REPAIR_PAUSE_S)
            connection = await self._wait_for_connection()
            if self._prepare_count == count:  # otherwise this is a new connection, already prepared
                await self._run_prepare(connection)

    async def run_sessions(self, use_session: UseSession, on_failure: OnFailure, *, confirms: bool = False) -> None:
        """Call `use_session` with a channel, and with a new one whenever it ends or fails, until cancelled."""
        last_prepared = 0

        async def attempt(reset_backoff: ResetBackoff) -> None:
            nonlocal last_prepared
            last_prepared = await self.wait_until_up(last_prepared=last_prepared)
            async with self.session(confirms=confirms) as session:
                await use_session(session, reset_backoff)

        await _retry_forever(attempt, on_failure)

    async def is_blocked(self) -> bool:
        """Whether the broker blocks this connection from publishing because its disk or memory is full."""
        connection = self._connection
        if connection is None or connection.transport is None:
            return False
        try:
            async with asyncio.timeout(0):
                await connection.transport.ready()
        except TimeoutError:
            return True
        return False

    async def _connect_once(self, reset_backoff: ResetBackoff) -> None:
        connection = await self._connect()
        lost: asyncio.Queue[BaseException | None] = asyncio.Queue()
        connection.close_callbacks.add(lambda _, error: lost.put_nowait(error))
        try:
            await self._run_prepare(connection)
            self._connection, self.unready_reason = connection, ""
            self._ends_when_misconfigured = False
            self._up.set()
            self.attempted.set()
            reset_backoff()
            log.info("%s: connected", self._name)
            error = await lost.get()
            raise BrokerUnavailable("the connection was lost" + (f": {describe_error(error)}" if error else ""))
        finally:
            self._up.clear()
            self._connection = None
            await close_quietly(connection.close())

    async def _connect(self) -> AbstractConnection:
        """Connect to the first node that takes the connection. Raises BrokerUnavailable, Misconfigured."""
        reasons = []
        for url in self._urls:
            try:
                return await self._connect_to(url)
            except BrokerUnavailable as error:
                reasons.append(error.reason)
        raise BrokerUnavailable("; ".join(reasons))

    async def _connect_to(self, url: URL) -> AbstractConnection:
        address = f"{url.host}:{url.port or DEFAULT_PORTS[url.scheme]}"
        async with deadline(self.timeout_s, doing=f"connecting to {address}"):
            try:
                return await aio_pika.connect(
                    url, client_properties={"connection_name": self._name}, connection_class=SelfClosingConnection
                )
            except ProbableAuthenticationError as error:
                detail = f"BUS_URL: the broker at {address} refuses the user {url.user!r} or its password"
                raise Misconfigured(detail, code="bad_broker") from error
            except InvalidFrameError as error:
                # aiormq 7.2.4 hides the reason: the broker answered Connection.Open with Connection.Close
                vhost = url.path.removeprefix("/") or "/"
                detail = f"BUS_URL: the broker at {address} has no virtual host {vhost!r} for the user {url.user!r}"
                raise Misconfigured(detail, code="bad_broker") from error

    async def _run_prepare(self, connection: AbstractConnection) -> None:
        self._prepare_count += 1
        async with deadline(2 * self.timeout_s):  # about forty requests, and the first time the queues are created
            await self._prepare(connection)

    def _on_failure(self, error: BrokerUnavailable | Misconfigured, attempt: int) -> None:
        if isinstance(error, Misconfigured) and self._ends_when_misconfigured:
            raise error
        reason = error_reason(error)
        changed, self.unready_reason = reason != self.unready_reason, reason
        self.attempted.set()
        if changed or attempt % LOG_EVERY == 0:
            level = logging.ERROR if isinstance(error, Misconfigured) else logging.WARNING
            log.log(level, "%s: %s; retrying", self._name, reason)


class SelfClosingConnection(aio_pika.Connection):
    """Closes itself if connecting fails: otherwise its finalizer does, in a task without an owner (aio-pika 10.2.1)."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.kwargs["transport_factory"] = TolerantTransport()

    async def connect(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the signature of aio-pika
        try:
            await super().connect(timeout)
        except BaseException:
            await close_quietly(self.close())
            raise


def _is_left_to_aiormq(record: logging.LogRecord) -> bool:
    return record.funcName not in _LOGGED_HERE


async def _retry_forever(attempt: Callable[[ResetBackoff], Awaitable[None]], on_failure: OnFailure) -> None:
    """Call `attempt` again whenever it ends, until cancelled; the pauses grow until it calls `reset_backoff`."""
    failures = 0

    def reset_backoff() -> None:
        nonlocal failures
        failures = 0

    before = cancel_requests()
    while True:
        try:
            await attempt(reset_backoff)
        except (BrokerUnavailable, Misconfigured) as error:
            on_failure(error, failures)
        except Exception as error:  # otherwise the process would continue without a connection
            log.exception("unexpected error; retrying")
            on_failure(BrokerUnavailable(describe_error(error)), failures)
        raise_if_cancelled(before)
        pause_s = min(FIRST_PAUSE_S * 2**failures, LONGEST_PAUSE_S)
        failures += 1
        await asyncio.sleep(pause_s * random.uniform(0.75, 1))  # jitter: not all processes at once
