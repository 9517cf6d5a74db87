"""The test servers: isolation, restarts, no process left behind."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import time
from typing import Any

import aio_pika
import pytest
from pymongo import AsyncMongoClient

from tests.servers import docker
from tests.servers import mongodb as mongodb_server
from tests.servers import rabbitmq as rabbitmq_server
from tests.servers.docker import answers
from tests.servers.process import Process, free_ports
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.sharing import VARIABLE, BrokerKeeper, SharedRabbitMQ

LIMIT_S = 10


async def publish(url, queue_name, body):
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(queue_name, durable=True)
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, queue_name)


async def take(url, queue_name):
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(queue_name, durable=True)
        message = await queue.get(no_ack=True, fail=False)
        return message and message.body


async def test_vhosts_do_not_see_each_other(rabbitmq):
    mine, other = rabbitmq.fresh_vhost(), rabbitmq.fresh_vhost()

    await publish(mine, "letters", b"mine")

    assert await take(other, "letters") is None
    assert await take(mine, "letters") == b"mine"


class EngineStub:
    """Records the virtual hosts that are added."""

    def __init__(self) -> None:
        self.added: list[str] = []
        self.is_closed = False

    def start(self) -> str:
        return "amqp://broker"

    def add(self, definitions: str) -> None:
        self.added += [vhost["name"] for vhost in json.loads(definitions)["vhosts"]]

    def close(self) -> None:
        self.is_closed = True


def test_more_vhosts_are_made_when_all_are_used():
    engine: Any = EngineStub()
    rabbitmq = RabbitMQ(engine, vhosts=2)

    names = [rabbitmq.fresh_vhost().removeprefix("amqp://broker/") for _ in range(40)]

    assert len(set(names)) == 40
    assert set(names[2:]) <= set(engine.added)


def test_workers_of_a_run_get_different_vhosts_of_one_broker(monkeypatch):
    engine: Any = EngineStub()
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(rabbitmq_server, "open_broker", lambda vhosts: RabbitMQ(engine, vhosts=2))
    keeper = BrokerKeeper()
    workers = [SharedRabbitMQ(os.environ[VARIABLE]) for _ in range(3)]

    urls = [worker.fresh_vhost() for _ in range(30) for worker in workers]
    with pytest.raises(RuntimeError, match="AttributeError"):
        workers[1]._call("explode")
    for worker in workers:
        worker.close()
    keeper.close()

    assert len(set(urls)) == 90
    assert engine.is_closed


async def test_databases_do_not_see_each_other(mongodb):
    mine, other = mongodb.fresh_database(), mongodb.fresh_database()

    async with AsyncMongoClient[dict[str, Any]](mine) as client:
        await client.get_default_database()["letters"].insert_one({"_id": 1})

    async with AsyncMongoClient[dict[str, Any]](other) as client:
        assert await client.get_default_database()["letters"].count_documents({}) == 0


async def test_mongodb_keeps_journaled_data_over_a_kill(mongodb, database):
    async with AsyncMongoClient[dict[str, Any]](database, journal=True) as client:
        letters = client.get_default_database()["letters"]
        await letters.insert_one({"_id": 1, "body": "still here"})

        await asyncio.to_thread(mongodb.kill)
        await asyncio.to_thread(mongodb.start)

        assert await letters.find_one() == {"_id": 1, "body": "still here"}


def test_the_source_of_mongodb_names_secantusdb_and_its_version(monkeypatch, tmp_path):
    package = tmp_path / "lib/python3.11/site-packages/secantusdb-0.7.0b3.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.4\nName: SecantusDB\nVersion: 0.7.0b3\n")
    monkeypatch.setattr(mongodb_server, "SECANTUSDB", tmp_path)
    monkeypatch.setattr(docker, "answers", lambda: False)
    monkeypatch.delenv("TEST_STORE_URL", raising=False)

    assert mongodb_server.source() == "SecantusDB 0.7.0b3, not a mongod"


def test_without_secantusdb_there_is_no_mongodb(monkeypatch, tmp_path):
    monkeypatch.setattr(mongodb_server, "SECANTUSDB", tmp_path / "none")
    monkeypatch.setattr(docker, "answers", lambda: False)
    monkeypatch.delenv("TEST_STORE_URL", raising=False)

    assert mongodb_server.source() is None


def test_server_dies_with_a_killed_test_run(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    os.mkfifo(tmp_path / "line")  # ends for its reader when the server and all its children are gone
    script = f"""
        import os, pathlib, time
        from tests.servers.process import Process
        server = Process(
            ["sh", "-c", "exec > ../line; sleep 60 & wait"],
            folder=pathlib.Path({str(folder)!r}), env=os.environ, log=pathlib.Path({str(tmp_path / "log")!r}),
        )
        print("ready", flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run, (tmp_path / "line").open() as line:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        run.kill()

        assert line.read() == ""

    deadline = time.monotonic() + LIMIT_S
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not folder.exists()


def test_server_that_ignores_sigterm_is_killed(tmp_path):
    os.mkfifo(tmp_path / "line")
    server = Process(
        ["sh", "-c", "trap '' TERM; echo ready > line; while :; do sleep 0.1; done"],
        folder=tmp_path,
        env=os.environ,
        log=tmp_path / "log",
    )
    (tmp_path / "line").read_text()  # "ready": from here on it ignores the signal

    server.stop(limit_s=0.2)

    assert not server.is_running


def test_workers_of_a_run_share_no_port(monkeypatch):
    found = []
    for worker in range(3):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{worker}")
        found.append(set(free_ports(50)))

    assert [len(ports) for ports in found] == [50] * 3
    assert len(set.union(*found)) == 150


def test_free_ports_are_distinct_and_below_the_range_of_clients():
    ports = free_ports(50)

    assert len(set(ports)) == 50
    assert max(ports) < 32768


def test_docker_does_not_answer_where_nothing_listens(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")

    assert not answers.__wrapped__()


async def test_docker_answers_where_its_socket_does(monkeypatch, tmp_path):
    async def engine(reader, writer):
        request = await reader.readline()
        assert request == b"GET /_ping HTTP/1.1\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")
        writer.close()

    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    async with await asyncio.start_unix_server(engine, tmp_path / "docker.sock"):
        assert await asyncio.to_thread(answers.__wrapped__)
