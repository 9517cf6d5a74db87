"""What is logged of a broker that is away: our line, which says that it is tried again, and no ERROR of the library."""

import logging

import pytest
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from common.bus.rabbitmq.bus import RabbitBus
from tests.contract.bus.support import until
from tests.servers.process import free_ports

LINK = "common.bus.rabbitmq.connection"


def shown(caplog) -> tuple[set[str], list[str]]:
    """Who has said something in our name, and all errors."""
    ours = {record.name for record in caplog.records if record.name.startswith("common.")}
    return ours, [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_broker_that_cannot_be_reached_is_told_by_our_line_alone(caplog):
    async with RabbitBus.open(f"amqp://127.0.0.1:{free_ports(1)[0]}", name="test"):
        assert shown(caplog) == ({LINK}, [])


async def test_a_link_that_the_broker_closes_is_told_by_our_lines_alone(vhost, caplog):
    async with RabbitBus.open(vhost, name="test", timeout_s=2) as bus:
        async with bus._consume_link.session() as session:
            # an exchange of a kind that there is not ends the whole connection: 503, COMMAND_INVALID
            with pytest.raises(CONNECTION_EXCEPTIONS):
                await session.raw.exchange_declare("x", exchange_type="unheard-of")
        await until(lambda: LINK in shown(caplog)[0])

    assert shown(caplog) == ({LINK}, [])
