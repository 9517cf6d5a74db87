"""The watchdog speaks while the event loop stands still, and names the place."""

import asyncio
import logging
import threading

import pytest

from common.runtime.watchdog import watched


class Ear(logging.Handler):
    """Keeps what is logged, and says that something was."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []
        self.said = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())
        self.said.set()


@pytest.mark.fault(row=21)
async def test_a_blocked_event_loop_is_logged_with_its_place():
    ear = Ear()
    logging.getLogger("common.runtime.watchdog").addHandler(ear)
    try:
        with watched(asyncio.get_running_loop(), limit_s=0.02):
            ear.said.wait(10)  # blocks the loop until the watchdog has said so
    finally:
        logging.getLogger("common.runtime.watchdog").removeHandler(ear)

    assert "stood still for 0.02 s, at" in ear.heard[0]
    assert "threading.py" in ear.heard[0]
