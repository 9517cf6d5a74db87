"""Tools of the tests of the bus border: users of limited rights, messages that no library writes."""

import re
import shlex
import struct
from pathlib import Path

import aiormq
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from common.bus.rabbitmq.bus import RabbitBus

SECURITY = Path("docs/security.md")
RETRY_DELAYS = (0.2, 1)


class RawProperties(Basic.Properties):
    """Properties of exactly these bytes."""

    def __init__(self, **values: bytes) -> None:
        super().__init__(message_id="raw")
        self._values = values

    def marshal(self) -> bytes:
        flags = sum(Basic.Properties.flags[name] for name in self._values)
        return struct.pack(">H", flags) + b"".join(
            self._values[name] for name in Basic.Properties.__slots__ if name in self._values
        )


def table(*entries: tuple[bytes, bytes, bytes]) -> bytes:
    """A table of these (name, type, value) entries."""
    body = b"".join(bytes([len(name)]) + name + kind + value for name, kind, value in entries)
    return struct.pack(">I", len(body)) + body


def long_string(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


def timestamp(value: int) -> bytes:
    return struct.pack(">Q", value)


def nested(depth: int) -> bytes:
    """A table in a table in a table …"""
    inner = table()
    for _ in range(depth):
        inner = table((b"", b"F", inner))
    return inner


async def publish(url: str, exchange: str, key: str, body: bytes, properties: Basic.Properties | None = None) -> None:
    """Publish one message and wait for its confirm."""
    connection = await aiormq.connect(url)
    try:
        channel = await connection.channel()
        await channel.basic_publish(body, exchange=exchange, routing_key=key, properties=properties)
    finally:
        await connection.close()


async def attempt(channel: AbstractChannel, action) -> str:
    """What comes of an action on a channel: `done`, `refused` (403) or the name of the error."""
    try:
        await action(channel)
    except aiormq.exceptions.ChannelAccessRefused:
        return "refused"
    except aiormq.exceptions.AMQPError as error:
        return type(error).__name__
    return "done"


def documented_rights() -> dict[str, tuple[str, str, str]]:
    """The permissions (configure, write, read) of each role, from the commands in the documentation."""
    found = {}
    for line in SECURITY.read_text().splitlines():
        if re.match(r"\s+rabbitmqctl set_permissions", line):
            _, _, _, _, role, *rights = shlex.split(line)
            configure, write, read = rights
            found[role] = (configure, write, read)
    return found


def open_bus(url: str, **settings):
    return RabbitBus.open(url, **{"name": "test", "retry_delays": RETRY_DELAYS, "timeout_s": 5, **settings})
