"""Declares the topology, or checks that it exists where this user may not declare it."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Protocol, Self

from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from aiormq.abc import AbstractChannel as RawChannel
from aiormq.exceptions import ChannelAccessRefused
from pamqp.common import FieldValue

from common.bus.port import WorkQueue
from common.bus.rabbitmq.deadlines import BrokerUnavailable, close_quietly
from common.bus.rabbitmq.topology import DEPLOYMENT, QueueSpec, Topology, pool_queue
from common.domain.errors import Misconfigured, NotAccepted
from common.domain.pools import DEFAULT_POOL

log = logging.getLogger(__name__)

_OTHER_DEPLOYMENT: Final = re.compile(r"but current is '[^']*?\.([0-9A-Za-z-]+)'")


async def declare_topology(connection: AbstractConnection, topology: Topology) -> None:
    """Declare everything. A queue whose node is down is skipped, so the rest can be used.

    Raises:
        Misconfigured: something exists with other arguments, or is missing and this user may not declare it; or another
            deployment uses the same names.
    """
    async with Declarer(connection) as declarer:
        if topology.deployment:
            await declarer.deployment(topology.prefix + DEPLOYMENT, topology.deployment)
        for name, kind in topology.exchanges.items():
            await declarer.exchange(name, kind)
        for queue in topology.queues:
            await declarer.queue(queue)
        declarer.require_all()


async def declare_queue(connection: AbstractConnection, queue: QueueSpec) -> None:
    """Declare a queue and its bindings. Raises Misconfigured as `declare_topology`."""
    async with Declarer(connection) as declarer:
        await declarer.queue(queue)
        declarer.require_all()


class PoolConnection(Protocol):
    """What `PoolQueues` uses of a connection."""

    prefix: str

    @property
    def prepare_count(self) -> int: ...

    async def declare(self, queue: QueueSpec) -> None: ...


class PoolQueues:
    """Declares the work queue of a pool before anything is sent to it, once for each connection.

    The generators of a pool may all be gone: so the sender declares the queue. If this fails, only what is sent to this
    pool fails.
    """

    def __init__(self, connection: PoolConnection) -> None:
        self._connection = connection
        self._declared: dict[str, int] = {}  # by pool: the value of `prepare_count` before

    @asynccontextmanager
    async def declared(self, queue: WorkQueue, pool: str) -> AsyncIterator[None]:
        """The queue of the pool exists in the body; if the broker accepts no message there, it is declared again.

        Raises:
            Unavailable: it cannot be declared.
        """
        if queue is not WorkQueue.GENERATE or pool == DEFAULT_POOL:  # the topology holds these
            yield
            return
        count = self._connection.prepare_count
        if self._declared.get(pool) != count:
            try:
                await self._connection.declare(pool_queue(pool).prefixed(self._connection.prefix))
            except Misconfigured as error:
                raise BrokerUnavailable(error.detail) from error
            self._declared[pool] = count
        try:
            yield
        except NotAccepted:
            self._declared.pop(pool, None)
            raise


class Declarer:
    """From the first refusal on it only checks that things exist: a user has rights by name, mostly all or none.

    A refusal closes the channel, so there may be a channel for each.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._channel: AbstractChannel | None = None
        self._refused = ""
        self._missing: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._channel is not None:
            await close_quietly(self._channel.close())

    def require_all(self) -> None:
        """Raises Misconfigured if something is missing that may not be declared."""
        if self._missing:
            missing = ", ".join(self._missing)
            detail = f"missing on the broker, and this user may not declare it: {missing} ({self._refused})"
            raise Misconfigured(detail, code="bad_broker")

    async def deployment(self, name: str, deployment: str) -> None:
        """Claim the names for this deployment: the broker compares the argument with that of the first declaration."""
        arguments: dict[str, FieldValue] = {"alternate-exchange": f"{name}.{deployment}"}
        try:
            await self._ask(
                lambda channel: channel.exchange_declare(
                    name, exchange_type="direct", durable=True, internal=True, arguments=arguments
                )
            )
        except ChannelPreconditionFailed as error:
            text = str(error.args[0])
            other = found[1] if (found := _OTHER_DEPLOYMENT.search(text)) else text
            detail = (
                f"another deployment ({other}, this is {deployment}) uses the same exchanges and queues: set "
                f"BUS_PREFIX or another virtual host; or delete the exchange {name} if the other is gone for good"
            )
            raise Misconfigured(detail, code="bad_broker") from error
        except ChannelAccessRefused as error:
            self._note_refusal(error)

    async def exchange(self, name: str, kind: str) -> None:
        if not self._refused:
            try:
                await self._ask(lambda channel: channel.exchange_declare(name, exchange_type=kind, durable=True))
                return
            except ChannelPreconditionFailed as error:
                raise _misconfigured("exchange", name, error) from error
            except ChannelAccessRefused as error:
                self._note_refusal(error)
        await self._check(name, lambda channel: channel.exchange_declare(name, passive=True))

    async def queue(self, queue: QueueSpec) -> None:
        if not self._refused:
            try:
                await self._ask(
                    lambda channel: channel.queue_declare(queue.name, durable=True, arguments=queue.arguments)
                )
                await self._bind(queue)
                return
            except ChannelPreconditionFailed as error:
                raise _misconfigured("queue", queue.name, error) from error
            except ChannelNotFoundEntity as error:
                log.warning("the queue %s is unreachable: %s", queue.name, error.args[0])
                return
            except ChannelAccessRefused as error:
                self._note_refusal(error)
        await self._check(queue.name, lambda channel: channel.queue_declare(queue.name, passive=True))

    async def _bind(self, queue: QueueSpec) -> None:
        for exchange, key in queue.bindings:

            def bind(channel: RawChannel, exchange: str = exchange, key: str = key) -> Awaitable[object]:
                return channel.queue_bind(queue.name, exchange, key)

            await self._ask(bind)

    async def _check(self, name: str, request: Callable[[RawChannel], Awaitable[object]]) -> None:
        try:
            await self._ask(request)
        except ChannelAccessRefused as error:
            # 4.3 answers this about what the user has no right on at all, so this role does not use it
            log.debug("whether %s exists is unknown: %s", name, error.args[0])
        except ChannelNotFoundEntity as error:
            if "down or inaccessible" in str(error.args[0]):
                log.warning("%s is unreachable: %s", name, error.args[0])
            else:
                self._missing.append(name)

    async def _ask(self, request: Callable[[RawChannel], Awaitable[object]]) -> None:
        if self._channel is None or self._channel.is_closed:
            self._channel = await self._connection.channel(publisher_confirms=False)
        await request(await self._channel.get_underlay_channel())

    def _note_refusal(self, error: ChannelAccessRefused) -> None:
        self._refused = str(error.args[0])
        log.info("not declared, so what exists is used: %s", self._refused)


def _misconfigured(what: str, name: str, error: ChannelPreconditionFailed) -> Misconfigured:
    # RabbitMQ's message names the argument, the requested value and the existing value
    return Misconfigured(f"the {what} {name} cannot be used: {error.args[0]}", code="bad_broker")
