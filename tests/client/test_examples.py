"""The programs of examples/ and the blocks of docs/clients.md, as they are."""

import asyncio
import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from common.bus.port import WorkQueue
from common.bus.rabbitmq.bus import RabbitBus
from common.runtime.clock import SystemClock
from darkroom_client import Darkroom
from tests.client.test_bus import life
from tests.conftest import missing
from tests.contract.bus.support import LIMIT_S, Recorder
from tests.security import callers
from tests.servers.process import free_ports

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
NODE = EXAMPLES / "node"
DOCUMENTS = (ROOT / "docs/clients.md", ROOT / "clients/python/README.md")
BLOCKS = [(path, number, found) for path in DOCUMENTS
          for number, found in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL))]  # fmt: skip


def example(name: str):
    """The module of a program."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def environment(cluster, monkeypatch, tmp_path):
    """As a user sets it."""
    monkeypatch.setenv("DARKROOM_URL", cluster.url)
    monkeypatch.setenv("DARKROOM_TOKEN", callers.token())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("path", "number", "block"), BLOCKS, ids=[f"{path.name}-{number}" for path, number, _ in BLOCKS]
)
async def test_each_block_of_a_document_runs(environment, cluster, path, number, block):
    address = "http://127.0.0.1:8000"
    assert address in block or 'Darkroom("' not in block
    source = textwrap.dedent(block).replace(f'Darkroom("{address}")', "Darkroom()").replace(" 512", " 64").replace(
        "=512", "=64"
    )  # fmt: skip

    await asyncio.to_thread(exec, compile(source, f"{path.name} block {number}", "exec"), {"__name__": "__main__"})


@pytest.mark.asyncio(loop_scope="module")
async def test_the_program_that_listens_ends_when_it_is_run_again(environment):
    """The second run goes on after the stored cursor, where no `Connected` comes."""
    (block,) = (block for _, _, block in BLOCKS if "darkroom.listen(" in block)
    command = [sys.executable, "-c", block.replace("=512", "=64")]

    said = ""
    for _ in range(2):  # as a process: it can be killed if it does not end
        run = await asyncio.to_thread(
            subprocess.run, command, stdout=subprocess.PIPE, text=True, timeout=30, check=True
        )
        said += run.stdout
        assert (environment / "cursor").read_text()

    assert said.count("read the history once") == 1


@pytest.mark.asyncio(loop_scope="module")
async def test_twenty_pictures_with_one_progress_bar(environment, capsys):
    program = example("twenty_pictures")
    program.COUNT = 4
    folder = environment / "pictures"
    folder.mkdir()

    assert await program.main("a lighthouse", folder) == 0

    said = capsys.readouterr()
    assert said.out == f"4 of 4 pictures are in {folder}\n"
    assert said.err.endswith("] 100%\n")
    assert [Image.open(BytesIO(file.read_bytes())).size for file in sorted(folder.iterdir())] == [(512, 512)] * 4


async def test_orders_are_published_by_a_program(vhost, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("BUS_URL", vhost)
    monkeypatch.chdir(tmp_path)
    orders = Recorder()
    async with (
        RabbitBus.open(vhost, name="test", retry_delays=(0.1,), timeout_s=LIMIT_S) as bus,
        bus.consume(WorkQueue.INTAKE, orders, concurrency=1),
    ):
        await example("publish_orders").main("ada", ["a lighthouse", "a harbour"])
        await orders.wait_for(2)

    assert capsys.readouterr().out.split() == orders.ids
    assert [(order.owner, order.data.prompt) for order in orders.received] == [
        ("ada", "a lighthouse"),
        ("ada", "a harbour"),
    ]


async def test_events_are_received_by_a_program(vhost, monkeypatch, capsys):
    monkeypatch.setenv("BUS_URL", vhost)
    async with RabbitBus.open(vhost, name="test", retry_delays=(0.1,), timeout_s=LIMIT_S) as bus:
        program = asyncio.create_task(example("receive_events").main(1))
        async with asyncio.timeout(LIMIT_S):
            while "listening" not in (said := capsys.readouterr().out):
                assert not program.done()
                await asyncio.sleep(0.05)
            _, completed = life(SystemClock())
            await bus.publish(completed)
            await program

    assert said == "listening\n"
    assert capsys.readouterr().out == f"{completed.owner}: {completed.subject} is at {completed.data.image_url}\n"


def require(path: Path) -> Path:
    """A program of the environments that `make test-clients` sets up."""
    return path if path.exists() else missing(f"no {path.relative_to(ROOT)}: run make test-clients")


async def output_of(*command: str | Path, folder: Path = ROOT, **env: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


@pytest.mark.clients
@pytest.mark.asyncio(loop_scope="module")
async def test_a_web_service_of_fastapi(environment, cluster):
    """In the environment of `make test-clients`, where FastAPI is."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    uvicorn = require(ROOT / ".venv-clients/bin/uvicorn")
    command = (uvicorn, "--app-dir", EXAMPLES, "fastapi_app:app", "--port", str(port))
    process = await asyncio.create_subprocess_exec(*command)
    try:
        async with aiohttp.ClientSession() as http, asyncio.timeout(90):
            while not await answers(http, f"{url}/docs"):
                assert process.returncode is None
                await asyncio.sleep(0.1)
            ids = set()
            for _ in range(2):
                headers = {"Idempotency-Key": "click"}
                async with http.post(f"{url}/postcards", params={"place": "Lisbon"}, headers=headers) as response:
                    assert response.status == 202
                    ids.add((await response.json())["id"])
            (found,) = ids
            with Darkroom() as darkroom:
                await asyncio.to_thread(darkroom.handle(found).get)
            async with http.get(f"{url}/postcards/{found}") as response:
                assert response.headers["Content-Type"] == "image/webp"
                assert Image.open(BytesIO(await response.read())).size == (256, 256)
            async with http.get(f"{url}/postcards/0193a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b") as response:
                assert (response.status, await response.json()) == (404, {"code": "image_not_found"})
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.clients
async def test_errors_of_the_web_service():
    """In the environment of `make test-clients`: a wrong request is the caller's, and nobody comes back too early."""
    program = """
import asyncio, fastapi_app
from darkroom_client import InvalidRequest, LimitReached, UnexpectedAnswer

limits = [LimitReached("", status=429, retry_after_s=after) for after in (1.5, 0.0, None)]
for error in (InvalidRequest("", status=422, fields={"prompt": "long"}), *limits, UnexpectedAnswer("a page")):
    answer = asyncio.run(fastapi_app.on_error(None, error))
    print(answer.status_code, answer.headers.get("Retry-After"))
"""
    said = await output_of(require(ROOT / ".venv-clients/bin/python"), "-c", program, folder=EXAMPLES)

    assert said.splitlines() == ["400 None", "429 2", "429 0", "429 60", "502 None"]


async def answers(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url) as response:
            return response.status == 200
    except OSError:
        return False


@pytest.mark.clients
@pytest.mark.timeout(300)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_typescript_client_made_from_the_document(environment, cluster):
    require(NODE / "node_modules/.bin/tsc")
    for script in ("schema", "build"):
        await output_of("npm", "run", script, folder=NODE)

    said = await output_of("node", "built/generate.js", "a lighthouse", environment / "picture.png", folder=NODE)

    assert said.split()[1:] == ["completed", str(environment / "picture.png")]
    assert Image.open(BytesIO((environment / "picture.png").read_bytes())).size == (256, 256)


@pytest.mark.clients
async def test_a_publisher_in_node(vhost):
    require(NODE / "node_modules/amqplib")
    orders = Recorder()
    async with (
        RabbitBus.open(vhost, name="test", retry_delays=(0.1,), timeout_s=LIMIT_S) as bus,
        bus.consume(WorkQueue.INTAKE, orders, concurrency=1),
    ):
        said = await output_of("node", "publish.mjs", "ada", "a lighthouse", folder=NODE, BUS_URL=vhost)
        await orders.wait_for(1)

    (order,) = orders.received
    assert (order.id, order.source, order.owner, order.data.prompt) == (
        said.strip(),
        "newsletter",
        "ada",
        "a lighthouse",
    )
