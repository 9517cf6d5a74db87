"""The life of a process, from its start to its exit status."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

from common.domain.errors import ServiceError
from common.runtime.watchdog import watch_event_loop

_new_event_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop as _new_event_loop
except ImportError:  # there is none for Windows and PyPy (docs/decisions/0024-uvloop.md)
    _new_event_loop = asyncio.new_event_loop

log = logging.getLogger(__name__)


class StoppedEarly(Exception):
    """The process was asked to stop while it still waited for a dependency; this is an orderly stop."""


def run(serve: Callable[[asyncio.Event], Awaitable[None]], *, as_json: bool = False) -> int:
    """Run `serve(stopping)` and return the exit status: 0 after an orderly stop, 1 after a failure.

    SIGTERM or SIGINT sets `stopping`; `serve` finishes its current work and returns. A second signal ends the process
    at once, with status 128 + the number of the signal, as shells do. `as_json` is the form of the log, which a failure
    is written in too.
    """
    try:
        with asyncio.Runner(loop_factory=_new_event_loop) as runner:
            runner.run(_until_stopped(serve))
    except (ServiceError, BaseExceptionGroup) as error:
        ours = _ours(error)
        if not ours:
            raise
        for found in ours:
            if as_json:
                log_failure(found.code, found.detail)
            else:
                sys.stderr.write(f"darkroom: {found.code}: {found.detail}\n")
        return 1
    return 0


def log_failure(code: str, detail: str) -> None:
    """Log why the process ends."""
    log.error("%s: %s", code, detail)


async def _until_stopped(serve: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        log.info("stopping on %s; a second signal stops at once", signal.Signals(number).name)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    with watch_event_loop(loop), suppress(StoppedEarly):
        await serve(stopping)


def _ours(error: BaseException) -> list[ServiceError]:
    """The service errors in a group; empty if it holds any other error, which needs its traceback."""
    if isinstance(error, ServiceError):
        return [error]
    if not isinstance(error, BaseExceptionGroup):
        return []
    found = [_ours(part) for part in error.exceptions]
    return [each for part in found for each in part] if all(found) else []
