"""The job as a dramatiq actor: processes of threads, acknowledged late as always there."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from benchmarks import job

dramatiq.set_broker(RabbitmqBroker(url=os.environ["BENCH_BROKER"]))


@dramatiq.actor
def generate(name: str) -> None:
    job.do(name)


def enqueue(names: list[str]) -> None:
    for name in names:
        generate.send(name)
