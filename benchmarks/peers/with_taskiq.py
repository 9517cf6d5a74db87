"""The job as a taskiq task on aio-pika."""

from __future__ import annotations

import asyncio
import os

import aiohttp
from taskiq import TaskiqEvents, TaskiqState
from taskiq_aio_pika import AioPikaBroker

from benchmarks.peers import async_job

broker = AioPikaBroker(os.environ["BENCH_BROKER"], qos=2)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_http(state: TaskiqState) -> None:
    state.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close_http(state: TaskiqState) -> None:
    await state.http.close()


@broker.task
async def generate(name: str) -> None:
    await async_job.do(name, broker.state.http)


def enqueue(names: list[str]) -> None:
    async def send() -> None:
        await broker.startup()
        for name in names:
            await generate.kiq(name)
        await broker.shutdown()

    asyncio.run(send())
