"""The bus on RabbitMQ, 3.10 to 4.x: the only place that knows of aio-pika."""
