"""A process of the fork server is like one that was started afresh."""

import asyncio
import json
import os
import signal
import sys
from subprocess import DEVNULL, PIPE, STDOUT

import pytest

from tests.servers.fork_server import forked_python

STATE = """
import asyncio, gc, json, logging, os, signal, sys, threading, time, warnings
files = [number for number in range(3, 256) if os.path.exists(f"/dev/fd/{number}")]
json.dump({
    "environment": dict(os.environ),
    "folder": os.getcwd(),
    "arguments": sys.argv,
    "first import": sys.path[0],
    "module": __name__,
    "names": sorted(globals().keys() - {"__annotations__", "__builtins__", "files"}),
    "files": len(files) - 1,  # that of the folder
    "stdin": sys.stdin.read(),
    "buffered": [sys.stdout.line_buffering, sys.stderr.line_buffering],
    "encodings": [sys.stdin.encoding, sys.stdout.encoding, sys.stderr.encoding, sys.stderr.errors],
    "handlers": {number: str(signal.getsignal(number)) for number in signal.valid_signals()},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "leads": [os.getpid() == os.getsid(0), os.getpid() == os.getpgid(0)],
    "logging": [repr(logging.root), [repr(each) for each in logging.root.handlers], logging.root.manager.disable],
    "threads": [thread.name for thread in threading.enumerate()],
    "collector": gc.isenabled(),
    "umask": os.umask(0),
    "zone": time.tzname,
    "warnings": len(warnings.filters) > 0,
    "loop": type(asyncio.get_event_loop_policy()).__name__,
}, sys.stdout, skipkeys=True)
"""


async def test_a_process_finds_what_a_fresh_one_finds(tmp_path, monkeypatch):
    monkeypatch.setenv("OF_THE_TEST", "seen")
    monkeypatch.delenv("HOME")
    environment = {**os.environ, "TZ": "Asia/Tokyo"}
    options = {"env": environment, "cwd": tmp_path, "stdout": PIPE, "stderr": DEVNULL}
    fresh = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STATE, "an argument"), **options, stdin=DEVNULL, start_new_session=True
    )
    forked = await forked_python("-c", STATE, "an argument", **options)

    expected, found = [json.loads((await process.communicate())[0]) for process in (fresh, forked)]

    assert found == expected


@pytest.mark.parametrize(
    ("code", "status", "written"),
    [
        ("print('done')", 0, "done\n"),
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('no')", 1, "no\n"),
        ("import os; os._exit(4)", 4, ""),
        ("import atexit; atexit.register(print, 'last')", 0, "last\n"),
        ("import threading; threading.Timer(0.01, print, ['later']).start()", 0, "later\n"),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        ("raise ValueError('odd')", 1, "ValueError: odd\n"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt\n"),
    ],
)
async def test_a_process_ends_as_a_fresh_one_ends(code, status, written):
    process = await forked_python("-c", code, stdout=PIPE, stderr=STDOUT)
    output, _ = await process.communicate()

    assert (process.returncode, output.decode().splitlines(keepends=True)[-1:]) == (
        status,
        [written] if written else [],
    )


async def test_processes_differ_in_their_chance():
    code = "import random, uuid; print(random.random(), uuid.uuid4())"
    processes = [await forked_python("-c", code, stdout=PIPE) for _ in range(3)]

    assert len({(await process.communicate())[0] for process in processes}) == 3


async def test_a_process_gets_signals():
    code = "import time; print(1, flush=True); time.sleep(60)"
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = await forked_python("-c", code, stdout=PIPE)
        await process.stdout.readline()
        os.killpg(process.pid, number)

        assert await process.wait() == -number


async def test_a_variable_that_is_read_at_the_start_is_refused():
    with pytest.raises(AssertionError, match="afresh"):
        await forked_python("-c", "", env={**os.environ, "PYTHONHASHSEED": "1"})
