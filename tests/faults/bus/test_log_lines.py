"""Log lines about an unreachable broker: one line of ours that announces the retry."""

import logging

import pytest
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from common.bus.rabbitmq.bus import RabbitBus
from tests.contract.bus.support import until
from tests.servers.process import free_ports

CONNECTION_LOGGER = "common.bus.rabbitmq.connection"


def log_records(caplog) -> tuple[set[str], list[str]]:
    """The loggers of this code base that have logged, and all error messages."""
    ours = {record.name for record in caplog.records if record.name.startswith("common.")}
    return ours, [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_an_unreachable_broker_logs_our_line_only(caplog):
    async with RabbitBus.open(f"amqp://127.0.0.1:{free_ports(1)[0]}", name="test"):
        assert log_records(caplog) == ({CONNECTION_LOGGER}, [])


async def test_a_connection_closed_by_the_broker_logs_our_lines_only(vhost, caplog):
    async with RabbitBus.open(vhost, name="test", timeout_s=2) as bus:
        async with bus._consume_connection.session() as session:
            # an unknown exchange type closes the whole connection: 503, COMMAND_INVALID
            with pytest.raises(CONNECTION_EXCEPTIONS):
                await session.raw.exchange_declare("x", exchange_type="unheard-of")
        await until(lambda: CONNECTION_LOGGER in log_records(caplog)[0])

    assert log_records(caplog) == ({CONNECTION_LOGGER}, [])
