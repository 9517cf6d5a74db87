"""Open the bus; the scheme of `BUS_URL` chooses the adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from common.bus.credentials import with_password
from common.bus.port import Bus
from common.bus.traced import MemoryNames, MessageNames, TracedBus
from common.domain.errors import Misconfigured
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from common.runtime.tracing.spans import is_on


def open_bus(
    settings: Settings, *, name: str, clock: Clock, deployment: str | None = None
) -> AbstractAsyncContextManager[Bus]:
    """Open the bus of this process; its connections and messages show `name`, the name of the service.

    `deployment` is the id of the store: services of two stores do not get the same exchanges and queues.

    A broker that is not reachable yet is not an error; `unready_reason` reports it until the connection is up.

    Raises:
        Misconfigured: the scheme is unknown; on entering, an operator has to correct credentials, rights or queue
            arguments, or another deployment uses the same names.
    """
    scheme = settings.bus_url.partition("://")[0]
    if scheme == "memory":
        from common.bus.memory import MemoryBus

        memory = MemoryBus(name=name, clock=clock, log_size=settings.event_backlog, retry_delays=settings.retry_delays)
        return _traced(memory, MemoryNames())
    if scheme in {"amqp", "amqps"}:
        from common.bus.rabbitmq.bus import RabbitBus  # slow: 0.4 s, not needed in embedded mode
        from common.bus.rabbitmq.topology import RabbitNames

        opened = RabbitBus.open(
            with_password(settings.bus_url, settings.bus_password),
            name=name,
            clock=clock,
            retry_delays=settings.retry_delays,
            timeout_s=settings.bus_timeout,
            heartbeat=settings.heartbeat,
            log_age_s=settings.event_log_age,
            log_bytes=settings.event_log_bytes,
            log_segment=settings.event_log_segment,
            prefix=settings.bus_prefix,
            deployment=deployment,
        )
        return _traced(opened, RabbitNames(settings.bus_prefix))
    detail = f"BUS_URL: the scheme {scheme!r} is not supported; use memory://, amqp:// or amqps://"
    raise Misconfigured(detail, code="bad_setting")


def _traced(opening: AbstractAsyncContextManager[Bus], names: MessageNames) -> AbstractAsyncContextManager[Bus]:
    """The same bus, which makes spans if traces are on."""

    @asynccontextmanager
    async def traced() -> AsyncIterator[Bus]:
        async with opening as bus:
            yield TracedBus(bus, names)

    return traced() if is_on() else opening
