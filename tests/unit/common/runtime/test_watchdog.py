"""The watchdog logs while the event loop is blocked, with the place."""

import asyncio
import logging
import threading

import pytest

from common.runtime.watchdog import watch_event_loop


class LogCapture(logging.Handler):
    """Keeps the log lines; `logged` is set with the first."""

    def __init__(self) -> None:
        super().__init__()
        self.hcaptured: list[str] = []
        self.logged = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.hcaptured.append(record.getMessage())
        self.logged.set()


@pytest.mark.fault(row=21)
async def test_a_blocked_event_loop_is_logged_with_its_place():
    capture = LogCapture()
    logging.getLogger("common.runtime.watchdog").addHandler(capture)
    try:
        with watch_event_loop(asyncio.get_running_loop(), limit_s=0.02):
            capture.logged.wait(10)  # blocks the loop until the watchdog has logged it
    finally:
        logging.getLogger("common.runtime.watchdog").removeHandler(capture)

    assert "blocked for 0.02 s, at" in capture.hcaptured[0]
    assert "threading.py" in capture.hcaptured[0]
