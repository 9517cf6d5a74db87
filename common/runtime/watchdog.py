"""A watchdog for the event loop: a blocked loop delays leases, heartbeats and every client."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

log = logging.getLogger(__name__)

LIMIT_S: Final = 5.0  # work in the loop takes milliseconds; a broker drops a silent connection after three heartbeats


@contextmanager
def watch_event_loop(loop: asyncio.AbstractEventLoop, *, limit_s: float = LIMIT_S) -> Iterator[None]:
    """Watch the loop of this thread from another thread; log once, with the place, each time it is blocked."""
    ended = threading.Event()
    arguments = (loop, threading.get_ident(), limit_s, ended)
    watching = threading.Thread(target=_watch, args=arguments, name="watchdog", daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()


def _watch(loop: asyncio.AbstractEventLoop, thread: int, limit_s: float, ended: threading.Event) -> None:
    while not ended.wait(limit_s):
        answered = threading.Event()
        try:
            loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # the loop is closed
            return
        if answered.wait(limit_s) or ended.is_set():
            continue
        log.error("the event loop was blocked for %g s, at %s", limit_s, _place(thread))
        while not answered.wait(limit_s):
            if ended.is_set():
                return
        log.warning("the event loop runs again")


def _place(thread: int) -> str:
    frame = sys._current_frames().get(thread)  # noqa: SLF001  # documented, for debuggers and tools like this
    if frame is None:
        return "an unknown place"
    last = traceback.extract_stack(frame)[-1]
    return f"{last.filename}:{last.lineno} {last.name}"
