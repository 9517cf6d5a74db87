"""Benchmarks of Darkroom, its parts and comparable task queues."""
