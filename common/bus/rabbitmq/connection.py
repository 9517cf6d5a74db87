"""A connection to the broker that is kept up, and channels on it for as long as they live.

    connect ──▶ prepare ──▶ up ──▶ lost ──▶ a little later, again

Why not aio-pika's robust connections: docs/decisions/0005-own-reconnect-loop.md.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import InvalidFrameError, ProbableAuthenticationError
from aiormq.abc import AbstractChannel as RawChannel
from aiormq.connection import DEFAULT_PORTS
from yarl import URL

from common.bus.rabbitmq.deadlines import BrokerUnavailable, close_quietly, deadline, describe_error, error_reason
from common.domain.errors import Misconfigured

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.1  # a queue that was deleted is consumed again within a second
LONGEST_PAUSE_S: Final = 3.0  # a broker that restarts takes 6 s and more
# Where a quorum queue is deleted and made anew at once, its consumers are never told, and get nothing any more; the
# broker needs 40 ms to tell them (3.10.8, idle).
REPAIR_PAUSE_S: Final = 0.25
LOG_EVERY: Final = 20  # attempts that fail alike: a line a minute
# Methods of aiormq 7.2.4 that log as an error, at each attempt and each close, what the link tells once it has ended.
_LOGGED_HERE: Final = frozenset({"connect", "__handle_close"})


class Session:
    """A channel while it lives: `lost` once the link, the channel or a consumer on it is gone, whoever ended it."""

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
OnFailure = Callable[[BrokerUnavailable | Misconfigured, int], None]  # with how many attempts have failed before


class BrokerConnection:
    """`prepare` runs on each new connection before it is used; `name` is what the broker's operator sees."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        heartbeat: int,
        timeout_s: float,
        prepare: Callable[[AbstractConnection], Awaitable[None]],
        ends_when_misconfigured: bool = True,
    ) -> None:
        self.unready_reason = "not connected yet"
        self.attempted = asyncio.Event()  # the first attempt is over, one way or the other
        self.timeout_s = timeout_s
        self._url = URL(url).update_query(heartbeat=heartbeat)
        self._name = name
        self._prepare = prepare
        self._connection: AbstractConnection | None = None
        self._up = asyncio.Event()
        self._ends_when_misconfigured = ends_when_misconfigured
        self.preparations = 0  # begun so far
        self._repairing = asyncio.Lock()

    async def run(self) -> None:
        """Keep the connection up until cancelled.

        Raises:
            Misconfigured: it has never been up, and an operator has to act. Once it was up, it is tried again.
        """
        logging.getLogger("aiormq.connection").addFilter(_is_left_to_aiormq)
        await _retry_forever(self._connect_once, self._on_failure)

    async def wait_until_up(self) -> None:
        """Wait for the connection, however long."""
        await self._up.wait()

    async def connection(self) -> AbstractConnection:
        """The connection, once it is up. Raises Down if that takes too long."""
        try:
            async with asyncio.timeout(self.timeout_s):
                while self._connection is None:
                    await self._up.wait()
                return self._connection
        except TimeoutError:
            raise BrokerUnavailable(self.unready_reason) from None

    @asynccontextmanager
    async def session(self, *, confirms: bool = False) -> AsyncIterator[Session]:
        """A channel of one's own. Raises Down."""
        connection = await self.connection()
        async with deadline(self.timeout_s):
            channel = await connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
            session = Session(channel, await channel.get_underlay_channel())
        try:
            yield session
        finally:
            await close_quietly(channel.close())

    async def repair(self) -> None:
        """Prepare again: something that was declared is missing. Raises Down, Misconfigured."""
        before = self.preparations
        async with self._repairing:
            if self.preparations != before:
                return  # one has begun since, and is over
            await asyncio.sleep(REPAIR_PAUSE_S)
            connection = await self.connection()
            if self.preparations == before:  # else it is another connection by now
                await self._run_prepare(connection)

    async def run_sessions(self, use_session: UseSession, on_failure: OnFailure, *, confirms: bool = False) -> None:
        """Have `use_session` work on a channel, and on another whenever it ends or fails, until cancelled."""
        last_prepared = 0

        async def attempt(reset_backoff: ResetBackoff) -> None:
            nonlocal last_prepared
            await self.wait_until_up()
            if self.preparations == last_prepared:  # the channel was lost, not the link: what it needs may be missing
                await self.repair()
            last_prepared = self.preparations
            async with self.session(confirms=confirms) as session:
                await use_session(session, reset_backoff)

        await _retry_forever(attempt, on_failure)

    async def is_blocked(self) -> bool:
        """Whether the broker has told this connection to stop publishing: its disk or memory is full."""
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
        place = f"{self._url.host}:{self._url.port or DEFAULT_PORTS[self._url.scheme]}"
        async with deadline(self.timeout_s, doing=f"connecting to {place}"):
            try:
                return await aio_pika.connect(
                    self._url, client_properties={"connection_name": self._name}, connection_class=_Connection
                )
            except ProbableAuthenticationError as error:
                detail = f"BUS_URL: the broker at {place} refuses the user {self._url.user!r} or its password"
                raise Misconfigured(detail, code="bad_broker") from error
            except InvalidFrameError as error:
                # aiormq 7.2.4 keeps the reason to itself: the broker answered Connection.Open with Connection.Close
                vhost = self._url.path.removeprefix("/") or "/"
                detail = f"BUS_URL: the broker at {place} has no virtual host {vhost!r} for the user {self._url.user!r}"
                raise Misconfigured(detail, code="bad_broker") from error

    async def _run_prepare(self, connection: AbstractConnection) -> None:
        self.preparations += 1
        async with deadline(2 * self.timeout_s):  # some forty questions, and queues to make on the first time
            await self._prepare(connection)

    def _on_failure(self, error: BrokerUnavailable | Misconfigured, attempt: int) -> None:
        if isinstance(error, Misconfigured) and self._ends_when_misconfigured:
            raise error
        reason = error_reason(error)
        changed, self.unready_reason = reason != self.unready_reason, reason
        self.attempted.set()
        if changed or attempt % LOG_EVERY == 0:
            level = logging.ERROR if isinstance(error, Misconfigured) else logging.WARNING
            log.log(level, "%s: %s; trying again", self._name, reason)


class _Connection(aio_pika.Connection):
    """Closed also where it never came up: its finalizer would do so, in a task that nobody owns (aio-pika 10.2.1)."""

    async def connect(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the library's own
        try:
            await super().connect(timeout)
        except BaseException:
            await close_quietly(self.close())
            raise


def _is_left_to_aiormq(record: logging.LogRecord) -> bool:
    return record.funcName not in _LOGGED_HERE


async def _retry_forever(attempt: Callable[[ResetBackoff], Awaitable[None]], on_failure: OnFailure) -> None:
    """Call `attempt` again whenever it ends, until cancelled; the pauses grow until it says that it works."""
    failures = 0

    def reset_backoff() -> None:
        nonlocal failures
        failures = 0

    while True:
        try:
            await attempt(reset_backoff)
        except (BrokerUnavailable, Misconfigured) as error:
            on_failure(error, failures)
        except Exception as error:  # the top of a unit of work: the process would live on without its link
            log.exception("an error that was not foreseen; trying again")
            on_failure(BrokerUnavailable(describe_error(error)), failures)
        pause_s = min(FIRST_PAUSE_S * 2**failures, LONGEST_PAUSE_S)
        failures += 1
        await asyncio.sleep(pause_s * random.uniform(0.75, 1))  # not all processes at the same moment
