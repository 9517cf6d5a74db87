"""Darkroom over RabbitMQ: publish orders with confirms, receive events on a durable queue. The extra `bus`."""

from darkroom_client.bus.listener import BusListener
from darkroom_client.bus.outbox import Outbox, SqliteOutbox, StoredMessage
from darkroom_client.bus.publisher import BusPublisher

__all__ = ["BusListener", "BusPublisher", "Outbox", "SqliteOutbox", "StoredMessage"]
