"""The commands as an installation starts them: every other test forks them from a process that has imported all."""

import asyncio
import os
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest

from tests.cluster import Cluster, front_end, running

DARKROOM = Path(sys.executable).with_name("darkroom")


async def test_python_m_services_runs_all_services(tmp_path):
    cluster = Cluster(tmp_path)
    service = cluster.add("up")
    service.forked = False
    async with running(cluster), front_end(cluster.url) as page:
        assert (await page.final((await page.order())["id"]))["status"] == "completed"

        assert await service.stop() == 0


async def test_the_darkroom_command_draws_at_a_running_server(tmp_path):
    cluster = Cluster(tmp_path)
    cluster.add("up")
    async with running(cluster):
        process = await asyncio.create_subprocess_exec(
            *(DARKROOM, "generate", "a lighthouse", "--width", "64", "--height", "64", "-o", "picture.png"),
            env={**os.environ, **cluster.settings},
            cwd=tmp_path,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
        )

        assert await process.communicate() == (b"picture.png\n", b"")
        assert process.returncode == 0
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
async def test_a_service_started_alone_loads_what_it_needs(tmp_path, vhost):
    """Each service imports its own code only, so one that lacks an import fails when it starts alone."""
    cluster = Cluster(tmp_path, BUS_URL=vhost)
    cluster.settings["INFERENCE_SERVICE_URL"] = f"http://127.0.0.1:{cluster.inference_port}"
    for name in ("inference", "api", "generator", "janitor", "webhooks"):
        cluster.add(name).forked = False
    async with running(cluster), front_end(cluster.url) as page:
        assert (await page.final((await page.order())["id"]))["status"] == "completed"
