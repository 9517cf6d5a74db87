"""Frames of AMQP 0-9-1 that are written or read here instead of in aiormq, because there are many of them."""
