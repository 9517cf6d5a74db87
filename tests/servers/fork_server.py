"""A fork server: starts a Python process in 20 ms by forking one that has imported everything.

    test ── report, stdin, stdout, stderr ──▶ fork server ── fork ──▶ process
         ── arguments, environment, folder ──────────────────────────▶ setsid, then as `python -m …` or `python -c …`
         ◀─────────────────────────────────────────────────── pid ─────┘
         ◀─────────────────────── exit status ──┘

Importing takes a second of a core, and the tests start hundreds of processes. So it is done once in a run.
"""

import asyncio
import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import types
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import IO, Any, NoReturn

ROOT = Path(__file__).parents[2]
# Besides all of common and services: what these import at their first use, and what the programs of tests import.
OTHERS = (
    *(f"PIL.{name}ImagePlugin" for name in ("Jpeg", "Png", "WebP")),
    "encodings.idna",
    "tests.faults.points",
    "tests.making",
    "tests.odd_answers",
)
NEEDS_TORCH = "services.diffusers_engine."  # only in .venv-diffusers; torch starts threads
Stream = int | IO[Any] | None
# Variables with these beginnings are read by the interpreter at its start, or by a library when it is imported.
READ_AT_START = ("AIOHTTP_", "COVERAGE_", "OPENSSL_", "PYTHON", "SSL_CERT_")


class ForkedProcess:
    """A process of the fork server, with the interface of `asyncio.subprocess.Process`."""

    def __init__(self, report: socket.socket) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._report = report
        self._ended = asyncio.Event()

    async def started(self) -> None:
        """Read the pid, then listen for the exit status."""
        loop = asyncio.get_running_loop()
        self._report.setblocking(False)
        try:
            pid, _, rest = (await loop.sock_recv(self._report, 100)).partition(b"\n")
        except BaseException:
            self._report.close()
            raise
        assert pid, "the fork server has ended"
        self.pid = int(pid)
        if rest:
            self._end(rest)
        else:
            loop.add_reader(self._report, self._on_report)

    def _on_report(self) -> None:
        asyncio.get_running_loop().remove_reader(self._report)
        self._end(self._report.recv(100))

    def _end(self, status: bytes) -> None:
        self._report.close()
        self.returncode = int(status or -signal.SIGKILL)  # the fork server kills its processes when it ends
        self._ended.set()

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """What it wrote to its pipes, once it has ended."""
        written = await asyncio.gather(*(_all_of(stream) for stream in (self.stdout, self.stderr)))
        await self.wait()
        return written[0], written[1]

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


async def _all_of(stream: asyncio.StreamReader | None) -> bytes:
    return await stream.read() if stream else b""


async def forked_python(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: Stream = DEVNULL,
    stdout: Stream = None,
    stderr: Stream = None,
    limit: int = 65536,
) -> ForkedProcess:
    """Like `asyncio.create_subprocess_exec(sys.executable, *arguments, …)` with a session of its own.

    The arguments are `-m module …` or `-c code …`. There is no pipe to stdin; it is empty unless it is given.
    """
    control, at_start = _fork_server()
    environment = dict(os.environ if env is None else env)
    assert _read_at_start(environment) == at_start, "only a process that starts afresh can see these variables"
    ours, theirs = socket.socketpair()
    order = {"arguments": arguments, "env": environment, "cwd": str(cwd or Path.cwd())}
    ours.sendall(json.dumps(order).encode() + b"\n")
    process = ForkedProcess(ours)
    files: list[int] = []
    try:
        for number, stream in enumerate((stdin, stdout, stderr)):
            files.append(await _file_of(number, stream, files, process, limit))
        socket.send_fds(control, [b"1"], [theirs.fileno(), *files])
    finally:
        theirs.close()
        for file in files:
            os.close(file)
    await process.started()
    return process


async def _file_of(number: int, stream: Stream, files: list[int], process: ForkedProcess, limit: int) -> int:
    """A file descriptor for the process; this end of a pipe becomes a stream of `process`."""
    if stream == DEVNULL:
        return os.open(os.devnull, os.O_RDWR)
    if stream == STDOUT:
        return os.dup(files[1])
    if stream == PIPE:
        assert number > 0
        reading, writing = os.pipe()
        reader = asyncio.StreamReader(limit=limit)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), open(reading, "rb", buffering=0))  # noqa: SIM115, PTH123, ASYNC230
        setattr(process, "stdout" if number == 1 else "stderr", reader)
        return writing
    if stream is None:
        return os.dup(number)
    return os.dup(stream if isinstance(stream, int) else stream.fileno())


@functools.cache
def _fork_server() -> tuple[socket.socket, dict[str, str]]:
    """The socket to the fork server, with its variables of `READ_AT_START`.

    The fork server ends when the socket is closed: also when the test run is killed.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.fork_server"],
            cwd=ROOT,
            stdin=theirs.fileno(),
            stdout=DEVNULL,
            start_new_session=True,  # Ctrl-C reaches only the test run, which then stops its processes
        )

    @atexit.register
    def end() -> None:
        ours.close()
        process.wait()

    return ours, _read_at_start(os.environ)


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}


def serve() -> None:
    """The fork server: fork for each request, report each process that ended, until the test run ends."""
    _import_everything()
    control = socket.socket(fileno=os.dup(0))
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(reading, selectors.EVENT_READ)
    reports: dict[int, socket.socket] = {}
    while True:
        ready = {key.fileobj for key, _ in selector.select()}
        if reading in ready:
            os.read(reading, 1000)
        if control in ready:
            files = socket.recv_fds(control, 1, 4)[1]
            if not files:
                break
            report = socket.socket(fileno=files[0])
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                selector.close()
                for ours in (control, *reports.values()):
                    ours.close()
                for file in (reading, writing):
                    os.close(file)
                _run(report, files[1:])
            reports[pid] = report
            for file in files[1:]:
                os.close(file)
        _report_ended(reports)
    for pid in reports:
        os.kill(pid, signal.SIGKILL)


def _import_everything() -> None:
    for name in ("common", "services"):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith(".__main__") and not module.name.startswith(NEEDS_TORCH):
                importlib.import_module(module.name)
    for name in OTHERS:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a fork would lose the other threads"
    gc.collect()
    gc.freeze()  # the collector would copy the pages of all that is shared


def _report_ended(reports: dict[int, socket.socket]) -> None:
    for pid in list(reports):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with reports.pop(pid) as report, suppress(OSError):
                report.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def _run(report: socket.socket, files: list[int]) -> NoReturn:
    """In the child: become what the order says. Never returns."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the run is in the background
        os.setsid()
        with report, report.makefile("rb") as lines:
            order = json.loads(lines.readline())
            report.sendall(f"{os.getpid()}\n".encode())
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(order["cwd"])
        os.environ.clear()
        os.environ.update(order["env"])
        time.tzset()
        status = _execute(order["arguments"])
    finally:
        os._exit(status)


def _execute(arguments: list[str]) -> int:
    """Run the module or code as the interpreter does; returns the exit status."""
    status: object = None
    option, target, *rest = arguments
    sys.path[0] = str(Path.cwd()) if option == "-m" else ""
    sys.argv = [option, *rest]
    try:
        if option == "-m":
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(target, "<string>", "exec"), main.__dict__)
    except SystemExit as end:
        status = end.code
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except Exception:  # noqa: BLE001  # what the interpreter does with any error
        traceback.print_exc()
        status = 1
    if isinstance(status, str):
        sys.stderr.write(f"{status}\n")
    threading._shutdown()  # type: ignore[attr-defined] # what the interpreter does before it ends
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status if isinstance(status, int) else int(status is not None)


if __name__ == "__main__":
    serve()
