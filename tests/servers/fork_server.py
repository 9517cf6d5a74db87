"""A fork server: starts a service in 20 ms by forking a process that has imported everything.

    test run ── a socket for each test ──▶ parent ── fork ──▶ fork server
    test     ── {"name", "env", "log"} ──▶ fork server ── fork ──▶ a service, a process of its own
             ◀── {"pid"}, later {"pid", "status"} ──┘

Importing takes a second of a core, and a test that kills thirty processes starts thirty. So it is done once in a run.
"""

import asyncio
import atexit
import contextlib
import functools
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.servers.parent_death import end_with_parent


class ForkedProcess:
    """A process of the fork server, with the interface of `asyncio.subprocess.Process`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.ended = asyncio.Event()

    async def wait(self) -> int:
        await self.ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The client in the test; made by `fork_server`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._children: dict[int, ForkedProcess] = {}
        self._started: asyncio.Queue[ForkedProcess] = asyncio.Queue()
        self._one_at_a_time = asyncio.Lock()

    async def start(self, name: str, env: dict[str, str], log: Path) -> ForkedProcess:
        async with self._one_at_a_time:
            self._writer.write(json.dumps({"name": name, "env": env, "log": str(log)}).encode() + b"\n")
            await self._writer.drain()
            return await self._started.get()

    async def listen(self) -> None:
        while line := await self._reader.readline():
            said = json.loads(line)
            if "status" not in said:
                child = self._children[said["pid"]] = ForkedProcess(said["pid"])
                self._started.put_nowait(child)
            else:
                child = self._children.pop(said["pid"])
                child.returncode = said["status"]
                child.ended.set()


@asynccontextmanager
async def fork_server() -> AsyncIterator[ForkServer]:
    """A fork server for one test; its processes end with it."""
    ours, theirs = socket.socketpair()
    with theirs:
        socket.send_fds(_parent(), [b"one more"], [theirs.fileno()])
    reader, writer = await asyncio.open_connection(sock=ours)
    made = ForkServer(reader, writer)
    listening = asyncio.create_task(made.listen())
    try:
        yield made
    finally:
        writer.write_eof()
        await listening
        writer.close()
        await writer.wait_closed()


@functools.cache
def _parent() -> socket.socket:
    """The socket to the parent, which ends when the socket is closed: also when the test run is killed."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.fork_server"], stdin=theirs.fileno(), stdout=subprocess.DEVNULL
        )

    @atexit.register
    def end() -> None:
        ours.close()
        process.wait()

    return ours


def run() -> None:
    """The parent: forks a fork server for each socket it receives, until the test run ends."""
    from tests.faults import launcher

    end_with_parent()
    signal.signal(
        signal.SIGCHLD, signal.SIG_IGN
    )  # a fork server reports its end to the test; no process waits for it here
    with socket.socket(fileno=os.dup(0)) as line:
        while (files := socket.recv_fds(line, 100, 1)[1]) != []:
            if os.fork() == 0:
                line.close()
                _serve_test(files[0], launcher)
                return
            os.close(files[0])


def _serve_test(test: int, launcher: Any) -> None:
    """A fork server: fork each requested service, report each that ended, until the test closes the socket."""
    end_with_parent()
    os.dup2(test, 0)
    os.dup2(test, 1)
    os.close(test)
    children: set[int] = set()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin.buffer, selectors.EVENT_READ)
    selector.register(reading, selectors.EVENT_READ)
    buffer = b""
    while True:
        for key, _ in selector.select():
            if key.fileobj == reading:
                os.read(reading, 1000)
                continue
            piece = os.read(0, 65536)
            if not piece:
                for pid in children:
                    os.kill(pid, signal.SIGKILL)
                return
            *lines, buffer = (buffer + piece).split(b"\n")
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    selector.close()
                    _run_service(json.loads(line), launcher)
                children.add(pid)
                _send({"pid": pid})
        _reap(children)


def _reap(children: set[int]) -> None:
    for pid in list(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            children.discard(pid)
            _send({"pid": pid, "status": os.waitstatus_to_exitcode(status)})


def _send(what: dict[str, Any]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _run_service(order: dict[str, Any], launcher: Any) -> None:
    """In the child: run a service like one started from a shell. Never returns."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(order["env"])
        status = launcher.launch([order["name"]])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    run()
