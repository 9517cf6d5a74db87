"""`darkroom keys` with a running api."""

import os
from subprocess import PIPE

import aiohttp

from tests.cluster import Cluster, embedded
from tests.inference_double import inference_double
from tests.security.callers import SIGNING
from tests.servers.fork_server import forked_python


async def darkroom(cluster: Cluster, *arguments: str) -> tuple[int, str]:
    process = await forked_python(
        *("-m", "services", *arguments), env={**os.environ, **cluster.settings}, stdout=PIPE, cwd=cluster.folder
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_a_key_works_from_creation_to_revocation(tmp_path):
    async with (
        inference_double() as inference,
        embedded(tmp_path, INFERENCE_SERVICE_URL=inference.url, API_KEYS="true", MEDIA_SIGNING_KEYS=SIGNING) as cluster,
        aiohttp.ClientSession() as http,
    ):
        created = await darkroom(cluster, "keys", "create", "ada", "--name", "laptop", "--expires", "90d")
        key = created[1].strip()

        async def asked() -> int:
            headers = {"Authorization": f"Bearer {key}"}
            async with http.get(f"{cluster.url}/api/limits/", headers=headers) as response:
                return response.status

        assert await asked() == 200
        assert await darkroom(
            cluster, "generate", "a lighthouse", "--width", "64", "--height", "64", "--token", key
        ) == (
            0,
            f"{next((cluster.media / 'generated_images').rglob('*.png')).name}\n",
        )
        listed = await darkroom(cluster, "keys", "list")
        key_id = listed[1].split()[0]
        assert key not in listed[1]
        assert (await darkroom(cluster, "keys", "revoke", key_id))[0] == 0
        assert await asked() == 401
