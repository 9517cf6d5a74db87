"""The message bus: a port, an in-memory adapter and a RabbitMQ adapter."""
