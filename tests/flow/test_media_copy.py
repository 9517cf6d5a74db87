"""Media that are moved while Darkroom runs: copy, switch, copy again."""

import asyncio
import json
import os
import sys
from subprocess import PIPE

import pytest

from tests.cluster import embedded, front_end
from tests.servers.fork_server import forked_python


async def darkroom(cluster, *arguments, status=0):
    """Run the command as an operator does; returns what it wrote to stdout."""
    env = {**os.environ, **cluster.settings}
    process = await forked_python("-m", "services", *arguments, env=env, stdout=PIPE, stderr=sys.stderr)
    out, _ = await process.communicate()
    assert process.returncode == status, out
    return out.decode()


async def copied(cluster, source, folder):
    lines = (await darkroom(cluster, "media", "copy", source, str(folder), "--json")).splitlines()
    return json.loads(lines[-1])


@pytest.mark.long
async def test_media_are_moved_while_images_are_painted(tmp_path):
    """Orders come all the time. After the switch a sweep removes nothing until the second copy has brought the rest."""
    async with embedded(tmp_path) as cluster, front_end(cluster.url) as page:
        source = cluster.settings["MEDIA_ROOT"]
        made = [(await page.order(seed=number))["id"] for number in range(5)]
        for image_id in made:
            await page.final(image_id)
        copying = asyncio.create_task(copied(cluster, source, tmp_path / "new"))
        while not copying.done():
            made.append((await page.order())["id"])
            await page.final(made[-1])
        first = await copying
        made.append((await page.order())["id"])
        await page.final(made[-1])
        assert first["sourceInUse"]

        up = cluster.services["up"]
        assert await up.stop() == 0
        cluster.settings["MEDIA_ROOT"] = up.env["MEDIA_ROOT"] = str(tmp_path / "new")
        await cluster.start()
        made.append((await page.order())["id"])
        await page.final(made[-1])
        refused = json.loads(await darkroom(cluster, "sweep", "--dry-run", status=1))
        assert refused["recordsWithoutFile"] > 0
        assert "not of the same time" in refused["refused"]

        second = await copied(cluster, source, tmp_path / "new")
        assert second["copied"] > 0
        assert not second["sourceInUse"]
        assert second["onlyAtDestination"] == 2  # the picture that was painted after the switch, and its thumbnail
        for image_id in made:
            _, image = await page.get(f"/api/images/{image_id}/")
            await page.bytes(image["imageUrl"])
        swept = json.loads(await darkroom(cluster, "sweep", "--dry-run"))
        assert swept.get("refused") is None
        assert (swept["filesWithoutRecord"], swept["recordsWithoutFile"]) == (0, 0)
