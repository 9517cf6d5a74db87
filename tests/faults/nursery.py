"""Starts services in 20 ms each: a process that has imported everything once, and forks for each of them.

    test ── {"name", "env", "log"} ──▶ nursery ── fork ──▶ a service, a process of its own
         ◀── {"pid"}, later {"pid", "status"} ──┘

Importing takes a second of a core, and a test that kills thirty processes starts thirty.
"""

import asyncio
import contextlib
import json
import os
import selectors
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.faults.lifeline import end_with_parent


class Child:
    """A process of the nursery, as `asyncio.subprocess.Process` shows one."""

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


class Nursery:
    """The test's end; made by `nursery`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._children: dict[int, Child] = {}
        self._born: asyncio.Queue[Child] = asyncio.Queue()
        self._one_at_a_time = asyncio.Lock()

    async def start(self, name: str, env: dict[str, str], log: Path) -> Child:
        async with self._one_at_a_time:
            assert self._process.stdin
            self._process.stdin.write(json.dumps({"name": name, "env": env, "log": str(log)}).encode() + b"\n")
            await self._process.stdin.drain()
            return await self._born.get()

    async def listen(self) -> None:
        assert self._process.stdout
        while line := await self._process.stdout.readline():
            said = json.loads(line)
            if "status" not in said:
                child = self._children[said["pid"]] = Child(said["pid"])
                self._born.put_nowait(child)
            else:
                child = self._children.pop(said["pid"])
                child.returncode = said["status"]
                child.ended.set()


@asynccontextmanager
async def nursery() -> AsyncIterator[Nursery]:
    """All its processes end with it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.nursery", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    made = Nursery(process)
    listening = asyncio.create_task(made.listen())
    try:
        yield made
    finally:
        assert process.stdin
        process.stdin.close()
        await process.wait()
        await listening


def run() -> None:
    """The nursery's end: fork what is asked for, tell what has ended, until the test closes the pipe."""
    from tests.faults import launcher

    end_with_parent()
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
                    _become(json.loads(line), launcher)
                children.add(pid)
                _say({"pid": pid})
        _reap(children)


def _reap(children: set[int]) -> None:
    for pid in list(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            children.discard(pid)
            _say({"pid": pid, "status": os.waitstatus_to_exitcode(status)})


def _say(what: dict[str, Any]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _become(order: dict[str, Any], launcher: Any) -> None:
    """In the child: a service like one started from a shell. Never returns."""
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
