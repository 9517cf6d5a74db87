"""The job as an arq function, on Redis."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import aiohttp
from arq import create_pool
from arq.connections import RedisSettings

from benchmarks.peers import async_job


async def open_http(context: dict[str, Any]) -> None:
    context["http"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


async def close_http(context: dict[str, Any]) -> None:
    await context["http"].close()


async def generate(context: dict[str, Any], name: str) -> None:
    await async_job.do(name, context["http"])


class ArqWorker:
    """The worker settings that `arq` reads."""

    functions = [generate]  # noqa: RUF012 - arq reads it so
    on_startup = open_http
    on_shutdown = close_http
    max_jobs = 2
    keep_result = 0
    redis_settings = RedisSettings.from_dsn(os.environ["BENCH_REDIS"])


def enqueue(names: list[str]) -> None:
    async def send() -> None:
        pool = await create_pool(RedisSettings.from_dsn(os.environ["BENCH_REDIS"]))
        for name in names:
            await pool.enqueue_job("generate", name)
        await pool.aclose()

    asyncio.run(send())
