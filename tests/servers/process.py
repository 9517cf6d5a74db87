"""Server processes that cannot outlive the test run, and ports for them."""

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

# Is told the server's process group, then waits for the end of the pipe from the test run: it comes when the run was
# killed. A run that ends well ends its guards first.
_GUARD = 'read -r group; read -r _; kill -KILL "-$group"; rm -rf "$1"'


class Process:
    """A server in a session of its own, so Ctrl-C reaches only the test run, which then stops it.

    A guard beside it sees to the case that the run is killed: the server dies as well, and `folder` is removed.
    """

    def __init__(self, command: Sequence[str], *, folder: Path, env: Mapping[str, str], log: Path) -> None:
        self._guard = subprocess.Popen(  # first: no server is ever without one
            ["sh", "-c", _GUARD, "guard", str(folder)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=dict(env),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError:
            self._dismiss_guard()
            raise
        assert self._guard.stdin
        self._guard.stdin.write(b"%d\n" % self._process.pid)
        self._guard.stdin.flush()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self, *, limit_s: float = 15) -> None:
        """Ask it to end; kill it when it has not after `limit_s` (RabbitMQ needs about 1 s)."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(limit_s)
        self.kill()

    def kill(self) -> None:
        """End it at once, with everything it started."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._dismiss_guard()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _dismiss_guard(self) -> None:
        self._guard.kill()
        self._guard.communicate()


_given: set[int] = set()  # not given twice: its server may not listen yet


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, below the range from which the kernel picks ports for clients.

    A port inside that range could be taken while its server is down, even by a client that connects to itself.
    """
    candidates = random.sample(range(20_000, 32_000), 500)  # Linux gives clients 32768 to 60999
    ports = list(itertools.islice((port for port in candidates if port not in _given and _is_free(port)), count))
    _given.update(ports)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
