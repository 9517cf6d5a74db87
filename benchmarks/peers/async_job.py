"""The job for peers on asyncio: fetched on the loop by aiohttp, the rest in a thread."""

from __future__ import annotations

import asyncio

import aiohttp

from benchmarks import job


async def do(name: str, http: aiohttp.ClientSession) -> None:
    stub, folder = job.settings()
    async with http.post(f"{stub}/inference/images/generations", json={}) as response:
        content = await response.read()
    await asyncio.to_thread(job.finish, name, content, folder)
