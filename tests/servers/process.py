"""Server processes that cannot outlive the test run."""

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

# Reads the server's process group, then waits for the end of the pipe from the test run, which comes when the run is
# killed. A run that ends normally ends its guards first.
_GUARD = 'read -r group; read -r _; kill -KILL "-$group"; rm -rf "$1"'


class Process:
    """A server in a session of its own, so Ctrl-C reaches only the test run, which then stops it.

    If the run is killed, a guard process kills the server and removes `folder`.
    """

    def __init__(self, command: Sequence[str], *, folder: Path, env: Mapping[str, str], log: Path) -> None:
        self._guard = subprocess.Popen(  # first, so that no server is without a guard
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
        """Send SIGTERM, then SIGKILL after `limit_s` (RabbitMQ needs about 1 s)."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(limit_s)
        self.kill()

    def kill(self) -> None:
        """Kill it with everything it started."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._dismiss_guard()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _dismiss_guard(self) -> None:
        self._guard.kill()
        self._guard.communicate()


PORTS = range(20_000, 32_000)  # Linux uses 32768 to 60999 for clients
SHARES = 8  # at least as many as a run has workers
_given: set[int] = set()  # never returned twice: the server of a port may not listen yet


def free_ports(count: int) -> list[int]:
    """Ports without a listener, below the range from which the kernel picks client ports.

    A port inside that range could be taken while its server is down, even by a client that connects to itself.
    """
    candidates = random.sample(_ports_of_worker(), 500)
    ports = list(itertools.islice((port for port in candidates if port not in _given and _is_free(port)), count))
    _given.update(ports)
    return ports


def _ports_of_worker() -> range:
    """Workers of a parallel run share no port: each could choose one before the server of the other listens."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        return PORTS
    share = len(PORTS) // SHARES
    start = int(worker.removeprefix("gw")) % SHARES * share
    return PORTS[start : start + share]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
