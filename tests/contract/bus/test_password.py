"""A broker user whose password has characters that a URL gives a meaning to."""

import asyncio
from pathlib import Path

import aio_pika
import pytest
import yaml
from yarl import URL

from common.bus.credentials import with_password
from tests.servers import rabbitmq as rabbitmq_server
from tests.servers.rabbitmq_engines import CONFIGURATION, InstalledRabbitMQ, User

ROOT = Path("/")
COMPOSE = Path(__file__).parents[3] / "docker-compose.yml"
PASSWORDS = ["p@ss/w:rd#1%", "%41", "$HOME ${x} $$", "ä 灯", "a b'\"\\`", "+&?=;[]"]


@pytest.mark.border(rule="D4")
@pytest.mark.long
async def test_any_password_is_accepted(rabbitmq, vhost):
    users = [
        User(f"odd-{number}", password, vhost, ("^image\\.", "^image\\.", "^image\\."))
        for number, password in enumerate(PASSWORDS)
    ]
    await asyncio.to_thread(rabbitmq.add_users, *users)
    url = URL(vhost)
    for user in users:
        named = f"amqp://{user.name}:another@{url.host}:{url.port}{url.raw_path}"
        connection = await aio_pika.connect(with_password(named, user.password))
        await connection.close()


@pytest.mark.long  # a broker starts in 6 s of a core
@pytest.mark.rabbitmq
@pytest.mark.border(rule="A4")
def test_the_compose_files_user_has_the_rights_of_a_service():
    """A new broker with the configuration of the file. From this variable RabbitMQ takes Latin-1 letters only."""
    executable = rabbitmq_server.executable(ROOT)
    if executable is None:
        pytest.skip("no installed RabbitMQ: that of Docker or TEST_BUS_URL has its configuration already")
    password = "".join(map(chr, range(0x21, 0x7F)))
    of_compose = yaml.safe_load(COMPOSE.read_text())["configs"]["rabbitmq"]["content"]
    of_tests = CONFIGURATION.replace("load_definitions = {definitions}\n", "")
    variables = {"RABBITMQ_DEFAULT_USER": "darkroom", "RABBITMQ_DEFAULT_PASS": password}
    broker = InstalledRabbitMQ(executable, root=ROOT, configuration=of_tests + of_compose, environment=variables)
    try:
        broker.start()
        broker.ctl("authenticate_user", "darkroom", password)
        assert broker.ctl("-q", "list_users", "--no-table-headers").split("\t") == ["darkroom", "[]\n"]
        rights = broker.ctl("-q", "list_user_permissions", "--no-table-headers", "darkroom").split()
        assert rights == ["/", *[r"^image\."] * 3]
    finally:
        broker.close()


@pytest.mark.parametrize(
    ("url", "password", "expected"),
    [
        ("amqp://ada@host/", "a/b", "amqp://ada:a%2Fb@host/"),
        ("amqp://ada:old@host:5672/v%2Fhost", "new", "amqp://ada:new@host:5672/v%2Fhost"),
        ("amqps://ada:o:l@d@host", "new", "amqps://ada:new@host"),
        ("amqp://ada:old@a,b:5673,c/vhost", "@", "amqp://ada:%40@a,b:5673,c/vhost"),
        ("amqp://ada:old@host/", None, "amqp://ada:old@host/"),
        ("amqp://host/@", "new", "amqp://host/@"),
        ("memory://", "new", "memory://"),
    ],
)
def test_the_password_of_the_url_is_replaced(url, password, expected):
    assert with_password(url, password) == expected
