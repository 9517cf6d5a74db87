"""The RabbitMQ of the tests: given by URL, in Docker, or from an installed package.

    RabbitMQ          the interface for tests: fresh_vhost(), add_users(), stop(), kill(), start(), ctl(), log_tail()
       └── engine     the way to run it: Given | InDocker | Installed

Environment: `TEST_BUS_URL` names a running broker (with its management API, at `TEST_BUS_MANAGEMENT_URL` unless that is
port 15672 of the same host); `TEST_RABBITMQ_IMAGE` another image; `TEST_RABBITMQ_ROOT` a folder with another Debian in
it (made by debootstrap, as in scripts/get-brokers.sh), whose RabbitMQ is run by chroot, though there is a Docker.
"""

import contextlib
import os
import shutil
import threading
from pathlib import Path

from tests.servers import docker
from tests.servers.rabbitmq_engines import (
    POOL,
    DockerRabbitMQ,
    GivenRabbitMQ,
    InstalledRabbitMQ,
    RabbitEngine,
    User,
    definitions,
    vhost_names,
)

IMAGE = "rabbitmq:4.3"
ADDED = 32  # virtual hosts made at once when all are used
SYSTEM = Path("/")
# The server's own script; Debian's wrapper in /usr/sbin would change to the user of the system's node.
DEBIAN = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class RabbitMQ:
    """A broker that tests may stop, kill and start again: its address and its data stay.

    `start`, `stop`, `kill` and `ctl` block; inside a coroutine call them by `asyncio.to_thread`.
    """

    def __init__(self, engine: RabbitEngine, *, vhosts: int = POOL) -> None:
        self._engine = engine
        self._vhosts = vhost_names(vhosts)  # which the engine makes
        self._made = vhosts
        self._adding = threading.Lock()
        try:
            self._broker = engine.start()
        except BaseException:
            engine.close()
            raise
        self.is_running = True

    @property
    def url(self) -> str:
        """The default virtual host, shared by all tests of the run; prefer `fresh_vhost`."""
        return f"{self._broker}/"

    def fresh_vhost(self) -> str:
        """The URL of an empty virtual host that no other test uses."""
        while True:
            with contextlib.suppress(IndexError):
                return f"{self._broker}/{self._vhosts.pop(0)}"
            self.add_vhosts()

    @property
    def fresh_vhosts(self) -> int:
        """How many there are."""
        return len(self._vhosts)

    def add_vhosts(self) -> None:
        """Make more virtual hosts for `fresh_vhost`."""
        with self._adding:
            names = vhost_names(ADDED, first=self._made)
            self._engine.add(definitions(names))
            self._vhosts += names
            self._made += ADDED

    def add_users(self, *users: User) -> None:
        """Add users, or change those that exist, by one call of `rabbitmqctl`: each takes 0.7 s of a core."""
        with self._adding:
            self._engine.add(definitions([], users))

    def start(self) -> None:
        """Start it again on the same port and data; returns when it accepts connections."""
        self._engine.start()
        self.is_running = True

    def stop(self) -> None:
        """Shut it down cleanly."""
        self._engine.stop()
        self.is_running = False

    def kill(self) -> None:
        """Kill it without a clean shutdown."""
        self._engine.kill()
        self.is_running = False

    def ctl(self, *arguments: str) -> str:
        """The output of `rabbitmqctl`, which takes 0.7 s of a core."""
        return self._engine.ctl(*arguments)

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self._engine.log().splitlines()[-lines:])

    def close(self) -> None:
        """Stop it finally and remove its files."""
        self._engine.close()


def image() -> str:
    return os.environ.get("TEST_RABBITMQ_IMAGE", IMAGE)


def source() -> str | None:
    """The source of the broker in words; None if there is none."""
    if os.environ.get("TEST_BUS_URL"):
        return "TEST_BUS_URL"
    if _root() == SYSTEM and docker.answers():
        return f"Docker, {image()}"
    if script := executable(_root()):
        return f"installed, {_version(script)}{_root() / script.relative_to('/')}"
    return None


def open_broker(*, vhosts: int = POOL) -> RabbitMQ:
    """Start the broker that `source` names, with this many virtual hosts."""
    if given := os.environ.get("TEST_BUS_URL"):
        return RabbitMQ(GivenRabbitMQ(given))
    if _root() == SYSTEM and docker.answers():
        return RabbitMQ(DockerRabbitMQ(image(), vhosts=vhosts), vhosts=vhosts)
    if script := executable(_root()):
        return RabbitMQ(InstalledRabbitMQ(script, root=_root(), vhosts=vhosts), vhosts=vhosts)
    raise LookupError("no RabbitMQ: set TEST_BUS_URL, start Docker, or install rabbitmq-server")


def executable(root: Path) -> Path | None:
    """The script of the RabbitMQ installed below `root`, as a path inside it."""
    if (root / DEBIAN.relative_to("/")).exists():
        return DEBIAN
    found = shutil.which("rabbitmq-server") if root == SYSTEM else None
    return Path(found) if found else None


def _root() -> Path:
    return Path(os.environ.get("TEST_RABBITMQ_ROOT", SYSTEM))


def _version(script: Path) -> str:
    """The version in the folder name of Debian's package; empty for another layout."""
    library = (_root() / script.relative_to("/")).parent.parent / "lib"
    return "".join(f"{folder.name.removeprefix('rabbitmq_server-')} " for folder in library.glob("rabbitmq_server-*"))
