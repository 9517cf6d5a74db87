"""`python -m tests.faults.launcher <service>`: a Darkroom service that dies at given points.

    service ─▶ faulty port ─▶ port
                   └─ before and after each call that is a point: kill or stop this process?

The service is unchanged: only its ports are wrapped when they are opened.

    FAULTS="kill before claim"              SIGKILL there, the first time
    FAULTS="stop after event 3"             SIGSTOP, the third time
    FAULTS="kill anywhere 0.002 7"          SIGKILL at any point, by chance; 7 is the seed
    FAULTS_JOURNAL=<file>                   a line for each command delivered (image, process) and each fault
    FAULTS_CLOCK=60                         the clock of this host is so many seconds ahead
"""

import asyncio
import fcntl
import functools
import inspect
import os
import random
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from common.bus.port import WorkQueue
from common.bus.rabbitmq.codec import Delivery
from common.runtime.clock import SystemClock
from services import wiring
from services.cli.main import main
from services.generator import worker
from tests.faults.points import Points
from tests.servers.parent_death import end_with_parent

GENERATE = b'"type":"image.generate"'  # in the bytes of a command
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def wait_for_writes() -> None:
    """A process that is stopped while it writes keeps SQLite locked for all others: wait for a turn between writes."""
    path = os.environ.get("STORE_URL", "")
    if path.startswith("sqlite:///"):
        folder = os.open(Path(path.removeprefix("sqlite:///")).parent, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        os.close(folder)


@dataclass
class Fault:
    """One planned fault; `at` counts down the passes of its point."""

    signal: signal.Signals
    when: str
    point: str
    at: int = 1
    chance: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Fault":
        kind, when, *rest = text.split()
        if when == "anywhere":
            return cls(SIGNALS[kind], when, "", chance=float(rest[0]))
        return cls(SIGNALS[kind], when, rest[0], at=int(rest[1]) if len(rest) > 1 else 1)

    def is_due(self, when: str, point: str, dice: random.Random) -> bool:
        if self.chance:
            return dice.random() < self.chance
        if (self.when, self.point) != (when, point):
            return False
        self.at -= 1
        return self.at == 0


class FaultPlan:
    """The faults planned for this process, with the journal of those that happened."""

    def __init__(self, faults: str, journal: str) -> None:
        parts = [part for part in faults.split(";") if part.strip()]
        self._faults = [Fault.parse(part) for part in parts]
        self._dice = random.Random(faults)
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if journal else None
        self._points = Points()

    def note(self, line: str) -> None:
        if self._journal is not None:
            os.write(self._journal, f"{line}\n".encode())  # one short write that appends: whole, or not at all

    def reach(self, when: str, point: str) -> None:
        for fault in self._faults:
            if fault.is_due(when, point, self._dice):
                self.note(f"{fault.signal.name} {when} {point}")
                if fault.signal == signal.SIGSTOP:
                    wait_for_writes()
                os.kill(os.getpid(), fault.signal)

    def faulty(self, port: str, target: Any) -> Any:
        return FaultyPort(port, target, self)

    def around(self, port: str, name: str, method: Any) -> Any:
        @functools.wraps(method)
        async def call(*arguments: Any, **named: Any) -> Any:
            point = self._points.of(port, name, arguments)
            if point is None:
                return await method(*arguments, **named)
            self.reach("before", point)
            result = await method(*arguments, **named)
            self.reach("after", point)
            return result

        return call


class FaultyPort:
    """Wraps a port: its coroutine functions are points, everything else passes through."""

    def __init__(self, port: str, target: Any, plan: FaultPlan) -> None:
        self._port = port
        self._target = target
        self._plan = plan

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        if inspect.iscoroutinefunction(attribute):
            return self._plan.around(self._port, name, attribute)
        return attribute

    def consume(self, queue: WorkQueue, handler: Any, **more: Any) -> Any:
        """Of the bus only: write each delivery that reaches the handler to the journal."""

        async def handle(message: Any) -> Any:
            if queue is WorkQueue.GENERATE:
                self._plan.note(f"delivered {message.id} {os.getpid()}")
            return await handler(message)

        return self._target.consume(queue, handle, **more)


def wrap_ports(plan: FaultPlan) -> None:
    """Wrap every port that a service opens from now on."""
    open_resources = wiring.open_resources

    @asynccontextmanager
    async def faulty(*arguments: Any, **named: Any) -> Any:
        async with open_resources(*arguments, **named) as parts:
            yield replace(
                parts,
                bus=plan.faulty("bus", parts.bus),
                store=plan.faulty("store", parts.store),
                media=plan.faulty("media", parts.media),
            )

    def inference(*arguments: Any, **named: Any) -> Any:
        return plan.faulty("inference", client(*arguments, **named))

    ack = Delivery.ack

    async def faulty_ack(self: Delivery, *, multiple: bool = False) -> None:
        if GENERATE not in self.body:
            await ack(self, multiple=multiple)
            return
        plan.reach("before", "ack")
        await ack(self, multiple=multiple)
        await asyncio.sleep(0)  # let it be sent: `after` means that the broker may have it
        plan.reach("after", "ack")

    client = worker.connected  # type: ignore[attr-defined] # where it is looked up, not where it lives
    replaced: list[tuple[Any, str, Any]] = [
        (wiring, "open_resources", faulty),
        (worker, "connected", inference),
        (Delivery, "ack", faulty_ack),
    ]
    for place, name, value in replaced:
        setattr(place, name, value)


def set_clock_ahead(seconds: float) -> None:
    now = SystemClock.now

    def later(clock: SystemClock) -> datetime:
        return now(clock) + timedelta(seconds=seconds)

    setattr(SystemClock, "now", later)  # noqa: B010 - mypy lets no method be assigned


def launch(arguments: list[str]) -> int:
    """Run a service with the faults of the environment; returns its exit status."""
    end_with_parent()
    set_clock_ahead(float(os.environ.get("FAULTS_CLOCK", "0")))
    wrap_ports(FaultPlan(os.environ.get("FAULTS", ""), os.environ.get("FAULTS_JOURNAL", "")))
    return main(arguments)


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:]))
