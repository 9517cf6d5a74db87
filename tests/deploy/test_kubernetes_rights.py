"""The services with the rights of their containers: another user on a file system that cannot be written."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cluster import Service, front_end
from tests.conftest import missing
from tests.deploy.manifests import OVERLAYS, ROOT, container, overlay
from tests.inference_double import inference_double
from tests.servers.process import free_ports

SCRIPT = ROOT / "tests/deploy/read_only.sh"
HELPERS = {"POD_IP", "HOST_NAMES"}  # variables of the manifests only
SECRETS = {"MEDIA_SIGNING_KEYS": "k" * 32, "WEBHOOK_SECRETS": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}


class Confined:
    """Runs commands as the user of a pod, with one folder that they can write."""

    def __init__(self, folder: Path, uid: int) -> None:
        self.media = folder / "media"
        self.media.mkdir()
        os.chown(self.media, uid, uid)
        self._prefix = ["unshare", "--mount", "sh", str(SCRIPT), str(uid), str(self.media), sys.base_prefix]

    def command(self, *command: str) -> list[str]:
        return [*self._prefix, *command]


class ConfinedService(Service):
    """A service of the manifests, with the arguments of its container."""

    def __init__(self, confined: Confined, spec: dict, env: dict[str, str], log: Path) -> None:
        program, name = container(spec)["args"]
        path = container(spec)["readinessProbe"]["httpGet"]["path"]
        port = env["API_PORT" if name == "api" else "HEALTH_PORT"]
        super().__init__(name, env=env, log=log, ready_url=f"http://127.0.0.1:{port}{path}")
        self._command = confined.command(str(ROOT / ".venv/bin" / program), name)

    async def start(self) -> None:
        with self.log_file.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd="/",
                env={"PATH": os.environ["PATH"], **self.env},  # nothing that the manifests do not give
                stdout=output,
                stderr=output,
                start_new_session=True,
            )


@pytest.fixture
def confined() -> Iterator[Confined]:
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        missing("a read-only file system and another user take root on Linux: sudo make test-deploy")
    uid = overlay("production").services()["darkroom-api"]["securityContext"]["runAsUser"]
    folder = Path(tempfile.mkdtemp(prefix="darkroom-rights-"))  # pytest keeps its own folders for their owner alone
    folder.chmod(0o755)
    yield Confined(folder, uid)
    shutil.rmtree(folder)


def test_nothing_but_the_media_can_be_written(confined, tmp_path):
    """The confinement itself, so that the test below shows something."""
    tries = [Path("/"), ROOT, ROOT / ".venv", Path("/var/tmp"), tmp_path, confined.media]
    script = "id -u; grep NoNewPrivs /proc/self/status; for folder; do touch $folder/tried && echo $folder; done"

    done = subprocess.run(
        confined.command("sh", "-c", script, "sh", *map(str, tries)), capture_output=True, text=True, check=False
    )

    assert done.stdout.split() == ["10001", "NoNewPrivs:", "1", str(confined.media)]
    assert [folder for folder in tries if (folder / "tried").exists()] == [confined.media]
    assert done.stderr.count("Read-only file system") + done.stderr.count("Permission denied") == len(tries) - 1


def run(confined: Confined, env: dict[str, str], *arguments: str) -> str:
    """What a command of Darkroom prints in the container."""
    command = confined.command(str(ROOT / ".venv/bin/darkroom"), *arguments)
    own = {"PATH": os.environ["PATH"], **env}
    return subprocess.run(command, cwd="/", env=own, capture_output=True, text=True, check=True).stdout


def addresses(confined: Confined, vhost: str, api_port: int) -> dict[str, str]:
    return {
        "BUS_URL": vhost,
        "MEDIA_ROOT": str(confined.media),
        "API_PORT": str(api_port),
        "HEALTH_PORT": str(free_ports(1)[0]),
    }


@pytest.mark.parametrize("name", OVERLAYS)
async def test_services_need_no_rights_and_one_folder(name, confined, vhost, database, tmp_path):
    """All services of an overlay, with its settings; only the addresses are those of the test.

    They start, get ready, paint, and serve the picture. They have written the media folder alone, because nothing else
    can be written.
    """
    manifests, (port,) = overlay(name), free_ports(1)
    secrets = {**SECRETS, "BUS_PASSWORD": urlsplit(vhost).password or "", "STORE_URL": database}
    async with AsyncExitStack() as stack:
        inference = await stack.enter_async_context(inference_double())
        services = {}
        for workload, spec in manifests.services().items():
            env = manifests.environment(spec, secrets) | addresses(confined, vhost, port)
            if "INFERENCE_SERVICE_URL" in env:
                env["INFERENCE_SERVICE_URL"] = inference.url
            services[workload] = ConfinedService(confined, spec, env, tmp_path / f"{workload}.log")
        for service in services.values():
            await service.start()
            stack.push_async_callback(service.kill)
        for service in services.values():
            await service.ready()

        printed = await asyncio.to_thread(run, confined, services["darkroom-api"].env, "keys", "create", "ada")
        client = await stack.enter_async_context(front_end(f"http://127.0.0.1:{port}"))
        client.http.headers["Authorization"] = f"Bearer {printed.split()[-1]}"
        image = await client.final((await client.order())["id"])
        assert image["status"] == "completed", image
        for url in (image["imageUrl"], image["thumbnailUrl"]):
            assert len(await client.bytes(urlsplit(url)._replace(scheme="", netloc="").geturl())) > 100
        assert {workload: await service.stop() for workload, service in services.items()} == dict.fromkeys(services, 0)

    written = {file.relative_to(confined.media).parts[0] for file in confined.media.rglob("*") if file.is_file()}
    assert written == {".darkroom-store", ".darkroom-checkpoint", "generated_images", "thumbnails"}
