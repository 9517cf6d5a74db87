"""The scheme of `BUS_URL` chooses the adapter."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from common.bus.port import Bus
from common.domain.errors import Misconfigured
from common.runtime.clock import Clock
from common.runtime.settings import Settings


def open_bus(settings: Settings, *, name: str, clock: Clock) -> AbstractAsyncContextManager[Bus]:
    """The bus of this process; `name` is the service's, as its connections and its messages show it.

    A broker that does not answer yet is no error: `unready_reason` says so until it does.

    Raises:
        Misconfigured: no such kind of bus; on entering, what an operator has to mend: credentials, a queue's arguments.
    """
    scheme = settings.bus_url.partition("://")[0]
    if scheme == "memory":
        from common.bus.memory import MemoryBus

        return MemoryBus(name=name, clock=clock, log_size=settings.event_backlog, retry_delays=settings.retry_delays)
    if scheme in {"amqp", "amqps"}:
        from common.bus.rabbitmq.bus import RabbitBus  # slow: 0.4 s, which the embedded mode need not wait for

        return RabbitBus.open(
            settings.bus_url,
            name=name,
            clock=clock,
            retry_delays=settings.retry_delays,
            timeout_s=settings.bus_timeout,
            heartbeat=settings.heartbeat,
            log_age_s=settings.event_log_age,
            log_bytes=settings.event_log_bytes,
            log_segment=settings.event_log_segment,
        )
    raise Misconfigured(f"BUS_URL: {scheme!r} is no bus; memory://, amqp:// and amqps:// are", code="bad_setting")
