"""Docker for test servers: a container that restarts on the same port."""

import contextlib
import functools
import http.client
import os
import socket
import sys
from urllib.parse import urlsplit

from tests.servers.process import free_ports

PING_LIMIT_S = 2.0  # a socket that answers does so in 0.1 ms; a remote engine may need a little longer


@functools.cache
def answers() -> bool:
    """True if the Docker engine answers. Asked directly: importing testcontainers takes two seconds."""
    connection = _connection(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    try:
        connection.request("GET", "/_ping")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def pull(image: str) -> None:
    """Pull `image` if it is missing. Done before the tests, because it may take longer than the limit of one test."""
    from testcontainers.core.docker_client import DockerClient  # slow: two seconds

    images = DockerClient().client.images
    if not images.list(name=image):
        print(f"pulling {image} ...", file=sys.stderr)
        images.pull(image)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PING_LIMIT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PING_LIMIT_S)
        self.sock.connect(self._path)


def _connection(docker_host: str) -> http.client.HTTPConnection:
    address = urlsplit(docker_host)
    if address.scheme == "unix":
        return _UnixConnection(address.path)
    return http.client.HTTPConnection(address.hostname or "localhost", address.port or 2375, timeout=PING_LIMIT_S)


class Container:
    """A container whose port stays the same when it is stopped and started again.

    testcontainers' reaper removes it if the test run is killed.
    """

    def __init__(self, image: str, port: int, files: dict[str, str]) -> None:
        from testcontainers.core.container import DockerContainer  # slow: two seconds

        self.port = port
        self._container = DockerContainer(image).with_bind_ports(port, free_ports(1)[0])
        for path, text in files.items():
            self._container.with_copy_into_container(text.encode(), path)

    def create(self) -> tuple[str, int]:
        """Create and start it; returns the host and port to connect to."""
        self._container.start()
        return self._container.get_container_host_ip(), self._container.get_exposed_port(self.port)

    def start(self) -> None:
        self._container.get_wrapped_container().start()

    def stop(self) -> None:
        self._container.get_wrapped_container().stop()

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def remove(self) -> None:
        with contextlib.suppress(Exception):  # the reaper removes what cannot be removed here
            self._container.stop()

    def run(self, *command: str) -> str:
        result = self._container.exec(list(command))
        if result.exit_code != 0:
            raise RuntimeError(f"{command} in {self._container.image} ended with {result.output!r}")
        return result.output.decode()

    def log(self) -> str:
        out, err = self._container.get_logs()
        return (out + err).decode(errors="replace")
