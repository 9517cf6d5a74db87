"""The ways to run a RabbitMQ for the tests: an installed package, Docker, or a running broker by URL."""

import base64
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

import pytest

from tests.servers import docker
from tests.servers.process import Process, free_ports

POOL = 64  # virtual hosts made at the start: each takes 30 ms of a core; making some later takes another 0.7 s
RUN = secrets.token_hex(4)  # a broker given by URL may serve two runs at once
START_LIMIT_S = 100.0  # 6 s on an idle machine; below the time limit of a test, so that the log is seen
CTL_LIMIT_S = 100.0  # 0.4 s on an idle machine, 31 s was seen at a load of 19
PERMISSIONS = {"configure": ".*", "write": ".*", "read": ".*"}


class RabbitEngine(Protocol):
    """A way to run a broker; it starts with virtual hosts."""

    def start(self) -> str: ...  # waits until it answers; gives the URL of the broker, without a virtual host
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...
    def add(self, definitions: str) -> None: ...  # as RabbitMQ exports them
    def ctl(self, *arguments: str) -> str: ...
    def log(self) -> str: ...


def vhost_names(count: int, *, first: int = 0) -> list[str]:
    return [f"test-{RUN}-{number}" for number in range(first, first + count)]


@dataclass(frozen=True)
class User:
    """A user of the broker who has these rights (configure, write, read) in one virtual host."""

    name: str
    password: str
    vhost: str  # the URL
    rights: tuple[str, str, str]

    @property
    def url(self) -> str:
        """The URL of the virtual host for this user."""
        parts = urlsplit(self.vhost)
        credentials = f"{quote(self.name, safe='')}:{quote(self.password, safe='')}"
        return parts._replace(netloc=f"{credentials}@{parts.netloc.rpartition('@')[2]}").geturl()

    @property
    def permissions(self) -> dict[str, str]:
        vhost = unquote(urlsplit(self.vhost).path[1:])
        return {"user": self.name, "vhost": vhost, **dict(zip(PERMISSIONS, self.rights, strict=True))}


def definitions(vhosts: Sequence[str], users: Sequence[User] = ()) -> str:
    """A definitions file of RabbitMQ: virtual hosts in which the guest has all permissions, and other users."""
    return json.dumps(
        {
            "users": [
                {"name": "guest", "password": "guest", "tags": ["administrator"]},
                *({"name": user.name, "password": user.password, "tags": []} for user in users),
            ],
            "vhosts": [{"name": name} for name in vhosts],
            "permissions": [
                *({"user": "guest", "vhost": name, **PERMISSIONS} for name in vhosts),
                *(user.permissions for user in users),
            ],
        }
    )


# https://www.rabbitmq.com/docs/configure; tried on 3.10.8 and 4.0.5
CONFIGURATION = """\
loopback_users = none
load_definitions = {definitions}
disk_free_limit.absolute = 50MB
log.file = false
log.console = true
log.console.level = info
"""


# Runs a command in another root that shares the folder of temporary files with this one. Its mounts are in a namespace
# of the command and end with it.
_IN_ROOT = """
root=$0 temporary=$1
shift
mkdir -p "$root$temporary" && mount --bind "$temporary" "$root$temporary" && mount -t proc proc "$root/proc" || exit
exec chroot "$root" "$@"
"""


class InstalledRabbitMQ:
    """A node from an installed package, with its own ports, folder, cookie and name beside any system broker.

    `executable` is a path inside `root`. The environment is added to that of the server.
    """

    def __init__(
        self,
        executable: Path,
        *,
        root: Path,
        configuration: str = CONFIGURATION,
        environment: Mapping[str, str] | None = None,
        vhosts: int = POOL,
    ) -> None:
        self.use(executable, root=root)
        self._folder = Path(tempfile.mkdtemp(prefix="darkroom-rabbitmq-"))
        self._log = self._folder / "log"
        self._port, distribution_port, epmd_port = free_ports(3)
        self._node = f"test-{secrets.token_hex(4)}@localhost"
        self._write("definitions.json", definitions(["/", *vhost_names(vhosts)]))
        self._write(
            "rabbitmq.conf",
            f"listeners.tcp.1 = 127.0.0.1:{self._port}\n"
            + configuration.format(definitions=self._folder / "definitions.json"),
        )
        self._write("enabled_plugins", "[].")
        self._env = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self._folder),  # the cookie is stored here
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "none"),  # Debian's names the system's node
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "logs"),
            "RABBITMQ_LOGS": "-",
            # The broker shares the cores with the tests: no busy waiting, rare ticks of idle queues, and one scheduler,
            # because two that pass their work to each other take 40 % more.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-start_epmd false +S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -rabbit quorum_tick_interval 60000"
            ),
            **(environment or {}),
        }
        # Erlang's name server: our own, or the first node would leave the system's running.
        self._epmd = self._spawn("epmd", "-port", str(epmd_port), "-address", "127.0.0.1")
        self._server: Process | None = None

    def use(self, executable: Path, *, root: Path) -> None:
        """Use this installation at the next start, on the same data, as an upgrade does."""
        self._bin = executable.parent
        self._root = root

    def start(self) -> str:
        self._server = self._spawn(str(self._bin / "rabbitmq-server"))
        try:
            _wait_until_it_answers("127.0.0.1", self._port, while_running=self._server)
        except TimeoutError as error:
            self.stop()
            raise TimeoutError(f"{error}; its log:\n{self.log()}") from error
        return f"amqp://guest:guest@127.0.0.1:{self._port}"

    def stop(self) -> None:
        if self._server:
            self._server.stop()

    def kill(self) -> None:
        if self._server:
            self._server.kill()

    def close(self) -> None:
        self.kill()  # its data are removed: a clean stop takes seconds of a core with many virtual hosts
        self._epmd.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, definitions: str) -> None:
        self._write("more.json", definitions)
        self.ctl("import_definitions", str(self._folder / "more.json"))

    def ctl(self, *arguments: str) -> str:
        command = self._command(str(self._bin / "rabbitmqctl"), "--quiet", "--node", self._node, *arguments)
        return subprocess.run(
            command, env=self._env, check=True, timeout=CTL_LIMIT_S, capture_output=True, text=True
        ).stdout

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _spawn(self, *command: str) -> Process:
        return Process(self._command(*command), folder=self._folder, env=self._env, log=self._log)

    def _command(self, *command: str) -> list[str]:
        if self._root == Path("/"):
            return list(command)
        return ["unshare", "--mount", "sh", "-c", _IN_ROOT, str(self._root), str(self._folder.parent), *command]

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)


class DockerRabbitMQ:
    """A container of the official image."""

    def __init__(self, image: str, *, vhosts: int = POOL) -> None:
        path = "/etc/rabbitmq/test-definitions.json"
        self._container = docker.Container(
            image,
            port=5672,
            files={
                "/etc/rabbitmq/conf.d/90-tests.conf": CONFIGURATION.format(definitions=path),
                path: definitions(["/", *vhost_names(vhosts)]),
            },
        )
        self._address: tuple[str, int] | None = None

    def start(self) -> str:
        if self._address is None:
            self._address = self._container.create()
        else:
            self._container.start()
        host, port = self._address
        _wait_until_it_answers(host, port)
        return f"amqp://guest:guest@{host}:{port}"

    def stop(self) -> None:
        self._container.stop()

    def kill(self) -> None:
        self._container.kill()

    def close(self) -> None:
        self._container.remove()

    def add(self, definitions: str) -> None:
        self._container.run("sh", "-c", 'printf %s "$1" > /tmp/more.json', "sh", definitions)
        self.ctl("import_definitions", "/tmp/more.json")

    def ctl(self, *arguments: str) -> str:
        return self._container.run("rabbitmqctl", "--quiet", *arguments)

    def log(self) -> str:
        return self._container.log()


class GivenRabbitMQ:
    """A running broker given by URL: a test that would stop it is skipped."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._broker = f"{parts.scheme}://{parts.netloc}"
        self._address = parts.hostname or "localhost", parts.port or 5672
        self._user, self._password = parts.username or "guest", parts.password or "guest"
        self._management = os.environ.get("TEST_BUS_MANAGEMENT_URL", f"http://{parts.hostname}:15672")
        self._made: dict[str, None] = {}  # paths, in the order they were made

    def start(self) -> str:
        _wait_until_it_answers(*self._address)
        self.add(definitions(vhost_names(POOL)))
        return self._broker

    def stop(self) -> None:
        pytest.skip("the broker at TEST_BUS_URL is not ours to stop")

    def kill(self) -> None:
        pytest.skip("the broker at TEST_BUS_URL is not ours to kill")

    def close(self) -> None:
        for path in self._made:
            self._ask("DELETE", path)

    def add(self, definitions: str) -> None:
        """Make what they contain one by one, with the user of the URL in place of the guest."""
        found = json.loads(definitions)
        for user in found["users"]:
            if user["name"] != "guest":
                self._make(f"/api/users/{quote(user.pop('name'), safe='')}", {**user, "tags": ""})
        for vhost in found["vhosts"]:
            self._make(f"/api/vhosts/{vhost['name']}")
        for rights in found["permissions"]:
            vhost, user = rights.pop("vhost"), rights.pop("user")
            name = quote(self._user if user == "guest" else user, safe="")
            self._ask("PUT", f"/api/permissions/{vhost}/{name}", rights)

    def _make(self, path: str, body: dict[str, str] | None = None) -> None:
        self._ask("PUT", path, body)
        self._made[path] = None

    def ctl(self, *arguments: str) -> str:
        pytest.skip(f"the broker at TEST_BUS_URL takes no rabbitmqctl {arguments[0]}")

    def log(self) -> str:
        return "the log of the broker at TEST_BUS_URL is not ours to read"

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> None:
        """https://www.rabbitmq.com/docs/http-api-reference; tried on 3.10.8."""
        credentials = base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
        request = urllib.request.Request(
            self._management + path,
            method=method,
            data=json.dumps(body or {}).encode(),
            headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10):
            pass


def _wait_until_it_answers(host: str, port: int, *, while_running: Process | None = None) -> None:
    """Wait for the first AMQP frame; an open port is not enough."""
    deadline = time.monotonic() + START_LIMIT_S
    while not _answers(host, port):
        if while_running and not while_running.is_running:
            raise TimeoutError("RabbitMQ ended while it started")
        if time.monotonic() > deadline:
            raise TimeoutError(f"RabbitMQ did not answer at {host}:{port} within {START_LIMIT_S} s")
        time.sleep(0.05)


def _answers(host: str, port: int) -> bool:
    # AMQP 0-9-1, 2.2.4: the client opens with a protocol header, the server with a method frame (type 1)
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"
    except OSError:
        return False
