"""The job as a Celery task: prefork, acknowledged late, taken one at a time."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks import job

app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, task_ignore_result=True)


@app.task
def generate(name: str) -> None:
    job.do(name)


def enqueue(names: list[str]) -> None:
    for name in names:
        generate.delay(name)
