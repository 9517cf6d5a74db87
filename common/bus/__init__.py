"""The message bus: one port, an adapter in memory and one on RabbitMQ."""
